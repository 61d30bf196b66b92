"""Tables 1 and 2 of Luu et al. (system 1) under the honest protocol (see wbc_table1.py).

The last checkpoint is scored on images that choose nothing; every network takes the same number of
updates; LISC's masks lie on its cells, so that its column cannot be compared with the paper's.
Run:  python main.py --config=configs/wbc_table1_honest.py \\
        --config.model.pretrained='FOLDER/{backbone}.pth'
      python -m ssl_jax.table runs/wbc_table1_honest
"""

from configs import wbc_table1


def get_config():
  """The page of the paper's protocol with the honest one in its place."""
  return wbc_table1.get_config(honest=True)
