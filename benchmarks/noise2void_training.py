"""Train CAREamics' Noise2Void for a given CPU time, in an interpreter that has CAREamics: part of `noise2void.py`.

`main` reads the file that is named on the command line. It is JSON with `train` and `test` (lists of .npy files of
(H, W, 3), 8 bits), `cpu_seconds`, `out` (folder of the results, one .npy per test image) and `work` (folder for logs
and checkpoints). Nothing of edgedenoise is imported.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

PATCH_PX = 64
BATCH = 16
MULTIPLE_OF = 16  # sides that the U-Net of CAREamics takes without a remainder


def main() -> None:
    from careamics import CAREamist, __version__
    from careamics.config import create_n2v_config
    from lightning.pytorch.callbacks import Callback

    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    limit = float(job["cpu_seconds"])

    class StopAfter(Callback):
        """Ends the training when the process has used its CPU time."""

        def __init__(self) -> None:
            self.begun = 0.0
            self.steps = 0

        def on_train_start(self, *_: Any) -> None:
            self.begun = time.process_time()

        def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
            self.steps += 1
            if time.process_time() - self.begun >= limit:
                trainer.should_stop = True

    config = create_n2v_config(
        experiment_name="noise2void",
        data_type="array",
        axes="YXC",
        patch_size=[PATCH_PX, PATCH_PX],
        batch_size=BATCH,
        num_epochs=100_000,
        n_channels=3,
    )
    stop = StopAfter()
    careamist = CAREamist(config, work_dir=job["work"], callbacks=[stop])
    images = [np.load(path).astype(np.float32) for path in job["train"]]
    wall = time.perf_counter()
    careamist.train(train_data=images)
    seconds = time.perf_counter() - wall
    used = time.process_time() - stop.begun
    for path in job["test"]:
        np.save(Path(job["out"]) / Path(path).name, _denoised(careamist, np.load(path)))
    found = {"version": __version__, "steps": stop.steps, "seconds": seconds, "cpu_seconds": used}
    (Path(job["out"]) / "training.json").write_text(json.dumps(found), encoding="utf-8")


def _denoised(careamist: Any, pixels: Any) -> Any:
    """Return (H, W, 3) floats in 8-bit levels."""
    height, width = pixels.shape[:2]
    padding = [(0, -side % MULTIPLE_OF) for side in (height, width)]
    padded = np.pad(pixels.astype(np.float32), (*padding, (0, 0)), mode="reflect")
    predictions, _ = careamist.predict([padded], checkpoint="last")
    result = np.squeeze(np.asarray(predictions[0]))
    if result.shape[0] == 3:
        result = result.transpose(1, 2, 0)
    return result[:height, :width]
