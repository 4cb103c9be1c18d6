"""Studies a minute, seconds by stage and memory of ``segment``, beside the plain way and the peers.

    python -m tests.bench.throughput [IMAGES ...] [--only PART ...]
        [--studies 4] [--headers 10000] [--memory 200]

IMAGES are scans (folders or zips of DICOM, 4-D NIfTI); without any, phantoms of 12 slices and 25
phases of 256 × 256 are drawn, 300 images each, which takes a minute. In one run on one machine:

1. ``command``: the command itself: one study alone, with all phases and with ``--frames ed-es``,
   then ``--studies`` of them together, and the same in the plain way: a program that does one step
   after the other in eager torch on all cores; wall and processor time, stages, memory;
2. ``networks``: the study in the plain way: the same weights in eager torch as they were trained
   (batch norm unfolded, NCHW), every step after the other; with the same crop and coarse look, and
   over the whole field of view as a network without a search must. And peers on the same images:
   MONAI's 2-D U-Net as its ventricular short-axis bundle builds it, and nnU-Net's 2-D plan for
   ACDC from ``dynamic_network_architectures``, with random weights, since architectures suffice
   for time. Each is left out where it is not installed;
3. ``headers``: as many DICOM headers as ``--headers`` says (links to one study's files) read and
   sorted to stacks, then told unchanged by size and time, then by hash;
4. ``memory``: many small scans in one run, its memory after every tenth of them.

Networks are timed by processor time on one thread, so that a busy machine disturbs little; the
command by both. Statistics have their own: ``reference_curves_speed.py`` (R's quantreg, VGAM and
mgcv, statsmodels), ``pooling_one_stage.py`` (R's lme4, nlme and metafor, statsmodels) and
``strata_speed.py``.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cardiometa.imaging.read import ReadOptions, read_cine
from cardiometa.phantom.image import CineGrid, HeartPhantom, render
from cardiometa.phantom.write import PhantomHeader, dicom_files, nifti_ed_es
from cardiometa.records import CineStack, ScanSource

PARTS = ("command", "networks", "headers", "memory")


# ------------------------------------------------------------------ images


def phantom_study(folder: Path, seed: int) -> Path:
    """A study of 300 images as DICOM files."""
    phantom = HeartPhantom(lv_edv_ml=140 + 10 * seed, lv_ef_percent=55, rv_edv_ml=160, seed=seed)
    cine = render(phantom, CineGrid(slices=12, frames=25, rows=256, columns=256))
    for name, data in dicom_files(cine, PhantomHeader(pseudonym=f"bench{seed}")).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def cohort_of(images: Sequence[Path], folder: Path, studies: int) -> Path:
    """A cohort of ``studies`` scans, the given ones in turn, by links."""
    for number in range(studies):
        person = folder / "BENCH" / f"P{number:04d}"
        person.mkdir(parents=True)
        (person / "baseline").symlink_to(images[number % len(images)].resolve())
        source = images[number % len(images)].resolve()
        if source.is_file():
            (person / "baseline").unlink()
            (person / "baseline").mkdir()
            (person / "baseline" / source.name).symlink_to(source)
    return folder


# ------------------------------------------------------------------ the command


class Memory(threading.Thread):
    """Largest memory of a process and all below it, and of its largest one, sampled."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._done = pid, threading.Event()
        self.total_mb = self.largest_mb = 0.0

    def run(self) -> None:
        while not self._done.wait(0.1):
            sizes = [resident_mb(pid) for pid in family(self._pid)]
            self.total_mb = max(self.total_mb, sum(sizes))
            self.largest_mb = max([self.largest_mb, *sizes])

    def stop(self) -> None:
        self._done.set()
        self.join()


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for one in found:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(n) for n in (task / "children").read_text().split()]
        except (OSError, ValueError):
            continue
    return found


def resident_mb(pid: int) -> float:
    """Memory of a process in MB, what it shares with others divided among them."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        pass
    return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One run of ``segment``: seconds and memory."""

    wall_s: float
    cpu_s: float
    total_mb: float
    largest_mb: float
    stages: dict[str, float]


def segment(cohort: Path, out: Path, *options: str) -> Command:
    """Run the command and watch it."""
    words = [sys.executable, "-m", "cardiometa", "segment", str(cohort), "--out", str(out)]
    done = watched([*words, "--ids-are-pseudonyms", "--quiet", *options])
    record = json.loads((out / "cardiometa.json").read_text())
    return replace(done, stages=record["run"]["stages"])


def watched(words: Sequence[str]) -> Command:
    """Run a program; its time and memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    process = subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    memory = Memory(process.pid)
    memory.start()
    _, told = process.communicate()
    memory.stop()
    wall = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode not in (0, 4):
        raise SystemExit(told)
    return Command(
        wall_s=wall,
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        total_mb=memory.total_mb,
        largest_mb=memory.largest_mb,
        stages={},
    )


def show_command(name: str, studies: int, images: int, done: Command) -> None:
    stages = ", ".join(f"{k} {v / studies:.2f}" for k, v in done.stages.items())
    print(
        f"{name:<34} wall {done.wall_s:6.1f} s  cpu {done.cpu_s:6.1f} s  "
        f"{60 * studies / done.wall_s:6.1f} studies/min  "
        f"{done.cpu_s / studies:5.2f} cpu s a study of {images} images\n"
        f"{'':<34} stages, s a study: {stages}; peak {done.total_mb:.0f} MB in all processes, "
        f"{done.largest_mb:.0f} MB in the largest",
    )


def commands(images: Sequence[Path], folder: Path, studies: int, n: int) -> None:
    """One study of ``n`` images, the same by ED and ES alone, and several."""
    one = cohort_of(images[:1], folder / "one", 1)
    show_command("one study", 1, n, segment(one, folder / "out1"))
    pair = segment(one, folder / "out2", "--frames", "ed-es")
    show_command("one study, --frames ed-es", 1, n, pair)
    several = cohort_of(images, folder / "several", studies)
    ours = segment(several, folder / "out3")
    show_command(f"{studies} studies", studies, n, ours)
    in_turn = [str(images[number % len(images)]) for number in range(studies)]
    words = [sys.executable, "-m", "tests.bench.throughput", *in_turn, "--only", "plain"]
    plain = watched(words)
    show_command(f"{studies} studies, the plain way", studies, n, plain)
    print(
        f"the plain way takes {plain.wall_s / ours.wall_s:.2f} × the wall time and "
        f"{plain.cpu_s / ours.cpu_s:.2f} × the processor time"
    )


def plain_way(images: Sequence[Path]) -> None:
    """Read, segment, measure and write in memory, one study and one step after the other."""
    from cardiometa.imaging.nifti import nifti_bytes
    from cardiometa.measurement.measure import measure_scan
    from cardiometa.records import BodySize
    from cardiometa.reports.figures.overlay import overlay_png
    from cardiometa.segmentation.model import load_model
    from cardiometa.segmentation.segment import segment_cine

    model = load_model()
    network = PlainPredictor(model)
    for path in images:
        cine = read_cine(ScanSource(kind="images", paths=(path,)), ReadOptions())
        found = segment_cine(cine, network, model.card, model.sha256)
        own = measure_scan(cine, found, BodySize(), "mosteller")
        nifti_bytes(found.labels, cine.affine, frame_ms=cine.source.frame_ms or 1.0)
        overlay_png(cine.pixels, found.labels, own.ed_frame, own.es_frame, cine.spacing_mm)


# ------------------------------------------------------------------ networks


def processor_s(work: Callable[[], object], times: int = 2) -> float:
    """The least processor time of this thread over some runs."""
    best = np.inf
    for _ in range(times):
        begun = time.thread_time()
        work()
        best = min(best, time.thread_time() - begun)
    return float(best)


class PlainPredictor:
    """The network as it was trained, one batch after the other, every view in full."""

    def __init__(self, model: Any, batch: int = 8) -> None:
        card = model.card
        self.context_slices, self._views = card.context_slices, card.views
        self._order, self._batch = card.label_order(), batch
        self._network = model.network()

    def probabilities(self, crops: np.ndarray) -> np.ndarray:
        """As `TorchPredictor`, the plain way."""
        import torch

        from cardiometa.segmentation.inference import FLIPS

        found = []
        with torch.no_grad():
            for first in range(0, len(crops), self._batch):
                x = torch.from_numpy(np.ascontiguousarray(crops[first : first + self._batch]))
                views = [
                    torch.softmax(self._network(x.flip(axes)), dim=1).flip(axes)
                    for axes in FLIPS[: self._views]
                ]
                found.append(torch.stack(views).mean(dim=0)[:, self._order].numpy())
        return np.concatenate(found)


def whole_field(cine: CineStack, model: Any) -> Any:
    """A task over the whole field of view at the model's spacing: no search, no crop."""
    from cardiometa.segmentation.inference import SliceTask
    from cardiometa.segmentation.resample import Scaling, Window, resample

    height, width = cine.pixels.shape[2:]
    spacing = model.card.spacing_mm
    reach = max(height * cine.spacing_mm[0], width * cine.spacing_mm[1]) / spacing
    window = Window(
        centre=((height - 1) / 2, (width - 1) / 2),
        size=-(-int(np.ceil(reach)) // 32) * 32,
        spacing_mm=spacing,
        source_spacing_mm=cine.spacing_mm,
        source_shape=(height, width),
    )
    images = resample(cine.pixels, *window.to_window())
    return SliceTask(images=images, scaling=Scaling.of(images), back=window.to_source())


def networks(cine: CineStack) -> None:
    """Ours against the plain way and the peers, on one thread."""
    import torch

    from cardiometa.segmentation.model import load_model
    from cardiometa.segmentation.segment import read_slices, segment_cine

    torch.set_num_threads(1)
    model = load_model()
    n = cine.pixels.shape[0] * cine.pixels.shape[1]
    predictor = model.predictor(device="cpu", workers=1)
    # One worker thread does the network's work: its time is the process's.
    begun = time.process_time()
    ours = segment_cine(cine, predictor, model.card, model.sha256)
    own = time.process_time() - begun
    predictor.close()
    plain_network = PlainPredictor(model)
    begun = time.process_time()
    plain_labels = segment_cine(cine, plain_network, model.card, model.sha256)
    plain = time.process_time() - begun
    task = whole_field(cine, model)
    few = task.images[:2]
    begun = time.process_time()
    read_slices(plain_network, type(task)(images=few, scaling=task.scaling, back=task.back))
    whole = (time.process_time() - begun) * len(task.images) / len(few)
    differ = float((ours.labels != plain_labels.labels).mean())
    print(f"\nnetwork, search and labels of {n} images, one thread, processor time")
    rows = [
        ("ours (four views)", own, ""),
        ("plain way, same crop and search", plain, f"labels differ in {differ:.2g} of the voxels"),
        (f"plain way, whole field {task.images.shape[-1]}²", whole, "from two phases"),
        *peers(n),
    ]
    for name, seconds, note in rows:
        ratio = f"{seconds / own:5.2f} × ours"
        print(f"  {name:<52} {seconds:7.2f} s  {1000 * seconds / n:7.1f} ms/image  {ratio}  {note}")


def peers(images: int) -> list[tuple[str, float, str]]:
    """Seconds of the peers' networks for so many images, from a batch of each."""
    found: list[tuple[str, float, str]] = []
    for name, make, size, views in (
        ("MONAI U-Net, short-axis bundle, 256², one view", monai_bundle, (256, 256), 1),
        ("nnU-Net 2-D ACDC plan, 256 × 224, one view", nnunet_acdc, (256, 224), 1),
        ("nnU-Net 2-D ACDC plan, its own mirroring", nnunet_acdc, (256, 224), 4),
    ):
        try:
            network = make()
        except ImportError as error:
            print(f"  {name}: left out, {error.name} is not installed")
            continue
        found.append((name, images * views * seconds_an_image(network, size), "random weights"))
    return found


def seconds_an_image(network: Any, size: tuple[int, int]) -> float:
    """Processor time of one image in a batch of four, by one thread."""
    import torch

    x = torch.randn(4, 1, *size)
    network.eval()
    with torch.inference_mode():
        network(x)
        return processor_s(lambda: network(x)) / 4


def monai_bundle() -> Any:
    """The network of MONAI's bundle ``ventricular_short_axis_3label``."""
    nets = importlib.import_module("monai.networks.nets")
    return nets.UNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=4,
        channels=[16, 32, 64, 128, 256],
        strides=[2, 2, 2, 2],
        num_res_units=2,
    )


def nnunet_acdc() -> Any:
    """The 2-D plan of nnU-Net for ACDC: seven stages of two convolutions, 32 to 512 channels."""
    import torch

    unet = importlib.import_module("dynamic_network_architectures.architectures.unet")
    return unet.PlainConvUNet(
        input_channels=1,
        n_stages=7,
        features_per_stage=[32, 64, 128, 256, 512, 512, 512],
        conv_op=torch.nn.Conv2d,
        kernel_sizes=3,
        strides=[1, 2, 2, 2, 2, 2, (2, 1)],
        n_conv_per_stage=2,
        num_classes=4,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )


# ------------------------------------------------------------------ headers and states of files


def headers_of_many(count: int, folder: Path) -> None:
    """How many headers, states and hashes of files a second, by processor time of one core."""
    from cardiometa.imaging.discovery import content_sha256, source_state
    from cardiometa.imaging.read import inspect_scan

    files = [path for path in phantom_study(folder / "headers", 2).rglob("*") if path.is_file()]
    scans = []
    for number in range(-(-count // len(files))):
        scan = folder / "scans" / f"{number:05d}"
        scan.mkdir(parents=True)
        for place, path in enumerate(files):
            os.link(path, scan / f"{place:04d}.dcm")
        scans.append(ScanSource(kind="images", paths=(scan,)))
    total = len(scans) * len(files)
    print(f"\n{total} DICOM files in {len(scans)} scans, processor time of one core")
    ways: tuple[tuple[str, Callable[[ScanSource], object]], ...] = (
        ("headers read, stacks chosen and planned", lambda s: inspect_scan(s, ReadOptions())),
        ("told unchanged by size and time", source_state),
        ("told unchanged by hash", content_sha256),
    )
    for name, work in ways:
        wall, begun = time.monotonic(), time.process_time()
        for source in scans:
            work(source)
        spent = time.process_time() - begun
        wall = time.monotonic() - wall
        print(f"  {name:<42} {total / spent:9.0f} files/s  ({wall:.1f} s wall)")


# ------------------------------------------------------------------ memory over many scans


def memory_of_many(scans: int, folder: Path) -> None:
    """``segment`` over many small ED/ES pairs, its memory after every tenth of them."""
    grid = CineGrid(slices=8, frames=8, rows=96, columns=96)
    images = []
    for seed in range(4):
        cine = render(HeartPhantom(lv_edv_ml=150, lv_ef_percent=50, rv_edv_ml=150, seed=seed), grid)
        pair = folder / f"pair{seed}"
        pair.mkdir(parents=True)
        for name, data in nifti_ed_es(cine).items():
            (pair / name).write_bytes(data)
        images.append(pair)
    cohort, out = cohort_of(images, folder / "many", scans), folder / "many-out"
    words = [sys.executable, "-m", "cardiometa", "segment", str(cohort), "--out", str(out)]
    process = subprocess.Popen(
        [*words, "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    begun = time.monotonic()
    shown, step = 0, max(1, scans // 10)
    print(f"\nmemory over {scans} small scans, MB in all processes")
    while process.poll() is None:
        time.sleep(0.5)
        done = sum(1 for _ in out.glob("scans/BENCH/*/baseline/result.json"))
        if done // step > shown:
            shown = done // step
            total = sum(resident_mb(pid) for pid in family(process.pid))
            print(
                f"  {done:5d} scans  {total:6.0f} MB  {time.monotonic() - begun:6.0f} s", flush=True
            )


# ------------------------------------------------------------------ all of it


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, nargs="*")
    parser.add_argument("--studies", type=int, default=4)
    parser.add_argument("--headers", type=int, default=10_000)
    parser.add_argument("--memory", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=(*PARTS, "plain"), default=PARTS)
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    if options.only == ["plain"]:
        plain_way(options.images)
        return
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top)
        cores = len(os.sched_getaffinity(0))
        print(f"{cores} cores, load {os.getloadavg()[0]:.1f}")
        if set(options.only) & {"command", "networks"}:
            images = options.images or [phantom_study(folder / "study", 1)]
            cine = read_cine(ScanSource(kind="images", paths=(images[0],)), ReadOptions())
            if "command" in options.only:
                commands(
                    images, folder, options.studies, cine.pixels.shape[0] * cine.pixels.shape[1]
                )
            if "networks" in options.only:
                networks(cine)
        if "headers" in options.only:
            headers_of_many(options.headers, folder)
        if "memory" in options.only:
            memory_of_many(options.memory, folder)
        print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
