"""Operations of layers, in forms that compile quickly and run fast; the results are equal."""
