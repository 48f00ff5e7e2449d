"""What a run is told: parameters, the grid's cells, the catalogue of sources, a stage's command line, the
environment.
"""
