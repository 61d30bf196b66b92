"""The parts of a stack or a large image as tasks of a Dask cluster."""

import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ssl_jax.inference.blocks import dask_tasks, stacks
from ssl_jax.inference.blocks.block_store import Block
from ssl_jax.inference.blocks.dask_futures import Futures
from ssl_jax.inference.blocks.dask_tasks import Call, StackJob
from ssl_jax.inference.blocks.regions import PlaneRegions, TileStore
from ssl_jax.inference.images import BATCH, ImagePredictor
from ssl_jax.io.stacks.planes import Planes
from ssl_jax.running.dask_cluster import ClusterError

GROUP = 2 * BATCH
"""Images, or small planes, of a task: those of one size go through the network together."""


class StackParts:
  """The blocks of a file that are not stored yet: groups of planes, or blocks and their tiles.

  Args:
    futures: of the call.
    call: of predict.
    stack: the file.
    image: its planes, of which only the header is asked.
    multiple: of the sides of what the network sees.
  """

  def __init__(self, futures: Futures, call: Call, stack: StackJob, image: Planes, multiple: int):
    self._futures = futures
    self._call = call
    self._stack = stack
    self._image = image
    self._multiple = multiple
    store = stack.task.store(stack.folder, image)
    self._grid = store.grid
    self._blocks = [block for block in self._grid.blocks() if not store.is_done(block)]
    self._left = len(self._blocks)
    self._failed = False
    # Tiles by plane, row and column; each is kept by the cluster while a block needs it.
    self._tiles: dict[tuple[int, int, int], Any] = {}
    self._uses: Counter[tuple[int, int, int]] = Counter()

  def submissions(
    self, write: Callable[[], None], refuse: Callable[[Exception], None]
  ) -> Iterator[None]:
    """Submits one task after the other, and yields after each.

    Calls `write` when all blocks are stored, or `refuse` with the error of the first that failed.
    """
    if not self._blocks:
      write()
      yield
      return
    total = len(self._grid.blocks())
    unit = ' blocks' if self._image.is_large() else ' planes'
    name = Path(self._image.name).name
    bar = tqdm(total=total, initial=total - self._left, unit=unit, desc=name, leave=False)

    def took(result: Callable[[], None], count: int) -> None:
      if self._failed:
        return
      try:
        result()
      except ClusterError:
        raise
      except Exception as error:
        self._failed = True
        self._tiles.clear()
        bar.close()
        refuse(error)
        return
      bar.update(count)
      self._left -= count
      if not self._left:
        bar.close()
        write()

    submit = self._by_tiles if stacks.goes_by_tiles(self._image, self._grid) else self._by_planes
    for _ in submit(took):
      yield
      # Known only now, because results are taken while this waits.
      if self._failed:
        return

  def _by_planes(self, took: Callable[[Callable[[], None], int], None]) -> Iterator[None]:
    for start in range(0, len(self._blocks), GROUP):
      blocks = self._blocks[start : start + GROUP]
      payload = pickle.dumps((self._call, self._stack, blocks))
      count = len(blocks)
      self._futures.submit(dask_tasks.predict_planes, payload, lambda r, n=count: took(r, n))
      yield

  def _by_tiles(self, took: Callable[[Callable[[], None], int], None]) -> Iterator[None]:
    task = self._stack.task
    # It only tells where tiles lie, and predicts nothing.
    geometry = PlaneRegions(
      ImagePredictor(_nothing, self._multiple),
      self._image,
      0,
      task.stats,
      task.budget,
      TileStore(None),
    )

    def tiles_of(block: Block) -> list[tuple[int, int]]:
      return geometry.tiles(task.region(self._grid, block))

    for block in self._blocks:
      self._uses.update((block.plane, *tile) for tile in tiles_of(block))
    for block in self._blocks:
      places = tiles_of(block)
      inputs = [self._tile(block.plane, *tile) for tile in places]
      payload = pickle.dumps((self._call, self._stack, block, places))

      def take(result: Callable[[], None], block: Block = block) -> None:
        took(result, 1)
        for tile in tiles_of(block):
          self._release((block.plane, *tile))

      self._futures.submit(dask_tasks.predict_block, payload, take, inputs)
      yield

  def _tile(self, plane: int, row: int, column: int) -> Any:
    """The task that predicts a tile."""
    place = (plane, row, column)
    if place not in self._tiles:
      payload = pickle.dumps((self._call, self._stack, plane, (row, column)))
      self._tiles[place] = self._futures.submit_input(dask_tasks.predict_tile, payload)
    return self._tiles[place]

  def _release(self, place: tuple[int, int, int]) -> None:
    self._uses[place] -= 1
    if not self._uses[place]:
      self._tiles.pop(place, None)


def _nothing(images: Any) -> Any:
  raise AssertionError('no image is predicted here')
