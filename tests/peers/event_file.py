"""What TensorBoard's own reader finds in a folder: for each tag the steps with value, size or
number, as JSON."""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

log = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0, "histograms": 0})
log.Reload()
tags = log.Tags()
json.dump(
    {
        "scalars": {tag: [[e.step, e.value] for e in log.Scalars(tag)] for tag in tags["scalars"]},
        "images": {
            tag: [[e.step, e.width * 10000 + e.height] for e in log.Images(tag)]
            for tag in tags["images"]
        },
        "histograms": {
            tag: [[e.step, e.histogram_value.num] for e in log.Histograms(tag)]
            for tag in tags["histograms"]
        },
    },
    sys.stdout,
)
