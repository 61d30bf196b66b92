"""How far images are from others: the kernel by hand, and which layer gives the features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.evaluation import kernel_distance
from ssl_jax.models import unet
from ssl_jax.types import AS_IS


def test_the_kernel_distance_by_hand():
  real, fake = np.array([[0.0], [2.0], [4.0]]), np.array([[2.0], [6.0]])
  spread = np.sqrt(8 / 3) + 1e-6
  x, y = (real - 2) / spread, (fake - 2) / spread

  def k(a, b):
    return (a * b + 1) ** 3

  within = np.mean([k(x[i], x[j]) for i in range(3) for j in range(3) if i != j])
  within += np.mean([k(y[i], y[j]) for i in range(2) for j in range(2) if i != j])
  across = np.mean([k(a, b) for a in x for b in y])
  assert kernel_distance.kernel_distance(real, fake) == pytest.approx(within - 2 * across)


def test_the_same_source_is_near_and_another_is_far():
  rng = np.random.default_rng(0)
  real, more = rng.normal(size=(2, 300, 8))
  near = kernel_distance.kernel_distance(real, more)
  far = kernel_distance.kernel_distance(real, more + 1)
  assert abs(near) < 0.1 < far


def test_features_are_those_of_the_coarsest_layer():
  network = unet.Model(2, widths=(4, 8, 16))
  images = np.random.default_rng(0).uniform(size=(5, 32, 32, 1)).astype(np.float32)
  variables = network.init(jax.random.key(0), jnp.asarray(images), train=False)
  features = kernel_distance.encoder_features(network, variables, AS_IS)
  computed = features(images, batch=4)
  assert computed.shape == (5, 16)
  np.testing.assert_allclose(features(images[4:], batch=4), computed[4:], rtol=1e-5)
  assert computed.std(0).max() > 0
