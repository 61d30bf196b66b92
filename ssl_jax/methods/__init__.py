"""Loss transforms, one file each, found by file name.

A file exports `method(**kwargs)`, which returns a function that turns a batch of views into named
terms (see types.LossTransform). `kwargs` are what `config.methods.<name>` holds. A file may also
export

  TASKS: the tasks that the method is for, of types.MASKS and types.CELLS; by default masks alone.
  NEEDS: methods that must be beside it in `config.methods`.
  REPLACES: methods that must not be beside it, because it does what they do.
  LABELED = True: it learns from labels alone, so a supervised control keeps it.
  control(**kwargs): for a method that REPLACES others, the `config.methods` that its supervised
    control has in its place, made from those kwargs of the method that are set.

The supervised control of a run keeps methods that say LABELED, puts in place what `control` gives,
and leaves all others out.
"""
