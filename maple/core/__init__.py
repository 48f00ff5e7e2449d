"""What every part uses: errors, storage, progress, parallel work."""
