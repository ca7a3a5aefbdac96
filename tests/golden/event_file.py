"""An event file as TensorBoard's own writer makes it: python event_file.py > event_file.bin
(tensorboard 2.21)."""

import io
import sys

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

Event, Summary = event_pb2.Event, summary_pb2.Summary
out = io.BytesIO()
writer = RecordWriter(out)
histogram = summary_pb2.HistogramProto(
    min=-1, max=3, num=4, sum=2.5, sum_squares=10.25, bucket_limit=[1, 3], bucket=[3, 1]
)
image = Summary.Image(height=2, width=3, colorspace=3, encoded_image_string=b"not a png")
for event in [
    Event(wall_time=1.5, file_version="brain.Event:2"),
    Event(wall_time=2.5, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START)),
    Event(
        wall_time=1e9,
        step=7,
        summary=Summary(
            value=[Summary.Value(tag="a/b", simple_value=0.25), Summary.Value(tag="c", image=image)]
        ),
    ),
    Event(
        wall_time=3.0, step=300, summary=Summary(value=[Summary.Value(tag="h", histo=histogram)])
    ),
]:
    writer.write(event.SerializeToString(deterministic=True))
sys.stdout.buffer.write(out.getvalue())
