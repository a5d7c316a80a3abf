"""Workers that record what they computed."""

from curation.engine.parallel import InProcess


class Counting(InProcess):
    """Records the label of each item that is computed."""

    def __init__(self):
        self.done = []

    def map(self, label, function, items, note=None, gpu=False):
        self.done += [label] * len(items)
        return super().map(label, function, items, note, gpu)
