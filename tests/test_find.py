"""Look-up by file name."""

import pytest

from ssl_jax import registry
from ssl_jax.errors import UserError


def test_every_file_of_methods_is_known():
  assert {'supervised', 'fixmatch', 'mean_teacher'} <= set(registry.known('methods'))


def test_helpers_are_not_listed():
  assert 'layers' not in registry.known('models')
  assert not [name for name in registry.known('datasets') if name.startswith('_')]


def test_an_unknown_name_lists_the_known():
  with pytest.raises(UserError, match=r"no 'fixmach' in methods.*fixmatch"):
    registry.find('methods', 'fixmach')


def test_a_wrong_knob_is_named():
  with pytest.raises(UserError, match=r"config.methods.fixmatch has no knob 'treshold'.*threshold"):
    registry.build('methods', 'fixmatch', {'treshold': 0.9})


def test_a_missing_knob_is_named():
  with pytest.raises(UserError, match=r"data lacks 'labeled': give it as --config.data.labeled="):
    registry.build('datasets', 'folder', {})


def test_flax_fields_are_not_knobs():
  with pytest.raises(UserError, match="no knob 'depth'") as error:
    registry.build('models', 'unet', {'depth': 3}, num_classes=2, dtype='float32')
  assert 'parent' not in str(error.value)
