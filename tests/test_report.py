"""The report of a run: one HTML file that says what the run folder knows."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ssl_jax import report
from ssl_jax.errors import UserError
from ssl_jax.evaluation import report_figures
from ssl_jax.evaluation.comparison.repetitions import Repetition
from ssl_jax.reports import report_contents, report_images, report_page


class Page(HTMLParser):
  """The tags of a page, and what in it would be loaded from elsewhere."""

  void = ('meta', 'img', 'input', 'br', 'path', 'use', 'line', 'circle', 'rect')

  def __init__(self, text):
    super().__init__()
    self.open, self.sources, self.text = [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    values = dict(attrs)
    self.sources += [values[key] for key in ('src', 'href', 'xlink:href') if values.get(key)]
    if tag not in self.void:
      self.open.append(tag)

  def handle_endtag(self, tag):
    if tag not in self.void:
      assert self.open.pop() == tag, f'</{tag}> closes another tag'

  def handle_data(self, data):
    self.text.append(data)


@pytest.fixture(scope='module')
def html(finished):
  return (finished / report_page.FILE).read_text()


def test_a_run_ends_with_its_report(html, finished):
  page = Page(html)
  assert not page.open
  text = ' '.join(' '.join(page.text).split())
  verdict = (finished / 'verdict' / 'verdict.txt').read_text().splitlines()[0]
  assert verdict in text
  for word in ('control', 'fixmatch', 'Sohn et al. 2020', 'How to repeat it', 'Loss on the labels'):
    assert word in text


def test_it_holds_all_that_it_shows(html):
  """No picture, script or style from elsewhere: the file can be sent, and read offline."""
  for source in Page(html).sources:
    assert source.startswith(('data:image/', '#')), source[:80]
  assert 'url(' not in re.sub(r'url\(#\w+\)', '', html)
  assert '<script' not in html


def test_pictures_show_the_masks_of_the_run(html, finished):
  uris = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', html)
  forms = [form for form, _ in uris]
  # Beside each image the truth and two stages.
  assert forms.count('png') == 3 * forms.count('jpeg') > 0
  for form, data in uris:
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format.lower() == form


def test_scores_are_those_of_done_json(html, finished):
  done = json.loads((finished / 'fixmatch' / 'done.json').read_text())
  assert re.search(rf'<th>mIoU</th><td>{done["test/miou"]:.1f}', html)


def test_the_control_is_not_said_to_learn_from_unlabeled_images(finished):
  control, ours = (report_contents._network(finished / n, n) for n in ('control', 'fixmatch'))
  assert 'unlabeled' not in control['counts']
  assert 'unlabeled' in ours['counts']
  assert control['counts']['labeled'] == ours['counts']['labeled']


def test_what_a_user_named_stays_text(finished, tmp_path):
  """A stage, class or file whose name is HTML is shown and not obeyed."""
  folder = tmp_path / 'run'
  shutil.copytree(finished, folder)
  (folder / 'verdict' / 'verdict.txt').write_text('<img src=x onerror=alert(1)> helps\n')
  text = report_page.write(folder).read_text()
  assert '&lt;img src=x onerror=alert(1)&gt; helps' in text
  assert '<img src=x' not in text


def test_a_run_that_goes_on_and_one_whose_images_are_gone(finished, tmp_path, monkeypatch):
  folder = tmp_path / 'run'
  shutil.copytree(finished, folder)
  (folder / 'verdict' / 'done.json').unlink()
  text = report_page.write(folder).read_text()
  assert 'This run is not finished: 1 stage' in ' '.join(text.split())
  shutil.copy(finished / 'verdict' / 'done.json', folder / 'verdict')

  def gone(*_):
    raise UserError('a.png does not exist.')

  monkeypatch.setattr(report_contents.build, 'splits_of_seed', gone)
  assert 'could not be read again: a.png does not exist.' in report_page.write(folder).read_text()


def test_pictures_that_cannot_be_made_again_are_kept(finished, tmp_path, monkeypatch, capsys):
  folder = tmp_path / 'run'
  shutil.copytree(finished, folder)
  path = report_page.write(folder)
  before = path.read_text()

  def gone(*_):
    raise UserError('a.png does not exist.')

  monkeypatch.setattr(report_contents.build, 'splits_of_seed', gone)
  assert report.main([str(folder)]) != 0
  said = capsys.readouterr().err
  assert 'cannot be read again: a.png does not exist.' in said
  assert path.read_text() == before
  # The advice: another file.
  assert report.main([str(folder), f'--out={tmp_path / "plain.html"}']) == 0
  assert 'could not be read again' in (tmp_path / 'plain.html').read_text()


def test_no_run_is_a_sentence(tmp_path, capsys):
  assert report.main([str(tmp_path)]) == 1
  assert 'holds no config.json, so it is no run' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('ends', 'word', 'answer'),
  [
    ((3.0, 1.0, 5.0), 'better', 'yes'),
    ((-3.0, -5.0, -1.0), 'worse', 'no'),
    ((1.0, -1.0, 3.0), 'not shown', 'open'),
  ],
)
def test_the_meaning_follows_the_interval(ends, word, answer):
  assert word in report_contents._meaning('fixmatch', *ends)
  assert report_contents._answer(ends) == answer


def test_images_that_changed_most_are_chosen():
  def side(hits):
    # Two classes; of 100 pixels of each, so many are right.
    matrices = np.array([[[h, 100 - h], [100 - h, h]] for h in hits])
    return Repetition(matrices, tuple('abcdefgh'), tuple('abcdefgh'))

  control = side([90, 80, 70, 60, 50, 55, 65, 75])
  ours = side([90, 80, 20, 95, 50, 56, 64, 100])
  reasons = {
    choice.index: choice.reason
    for choice in report_images.choose({'control': control, 'ours': ours})
  }
  assert reasons == {
    7: 'best',
    3: 'best',
    2: 'worst',
    4: 'worst',
    5: 'improved most',
    6: 'got worse most',
  }


def test_a_chart_is_an_element_of_the_page_and_the_same_each_time():
  bars = [report_figures.Bar('a < b', 1.0, -1.0, 3.0)]
  svg = report_figures.intervals(bars, 'points')
  assert svg.startswith('<svg ')
  assert 'class="chart"' in svg
  assert 'a &lt; b' in svg
  assert svg == report_figures.intervals(bars, 'points')
