"""A real S3 interface on loopback: moto's server, with a bucket called lab."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1", "no_proxy": "127.0.0.1",
}  # fmt: skip


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, Any]]:
    """(address of the server, client)"""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    try:
        address = "http://{}:{}".format(*started.get_host_and_port())
        client = boto3.client(
            "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
        )
        client.create_bucket(Bucket="lab")
        yield address, client
    finally:
        started.stop()
