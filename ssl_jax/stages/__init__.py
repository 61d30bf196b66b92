"""What a stage of a run can be: each file exports `stage(settings, folder, stop, *, ...)`.

A stage reads the folders of earlier stages, which its keyword arguments name, and writes only its
own; the figures that it returns become its done.json. `settings` are those of the config with what
the stage's dict in `config.stages` changes; the keyword arguments are set by that dict as well.

Beside `stage` stand
- INPUT_STAGES: keyword arguments that name earlier stages -> the kinds that those may be;
- check(spec, earlier, splits): refuses, before the run begins, what the stage could not do;
- TASKS: tasks of data sets (types.MASKS, types.CELLS) that it is for; by default masks alone;
- USES: fields of the config that it reads; by default all of them, as stages that train do.
"""
