"""What a stage of a run can be: each file exports `stage(config, folder, stop, *, ...)`.

A stage reads earlier folders of the run by name and writes only its own; what it returns becomes
its done.json. Parameters after the star are set by the stage's dict in `config.stages`.
"""
