"""What a stage of a run can be: each file exports `stage(config, folder, stop, *, ...)`.

Beside it stand INPUT_STAGES, which says of its parameters that name earlier stages what kind those must
be, and `check`, which refuses before the run begins what the stage could not do.

A stage reads earlier folders of the run by name and writes only its own; what it returns becomes
its done.json. Parameters after the star are set by the stage's dict in `config.stages`.
"""
