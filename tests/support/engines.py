"""A job engine of this process, for tests whose subject is not the worker processes."""

import pickle
from contextlib import contextmanager
from functools import lru_cache

from fever_extract.jobs.worker import process
from fever_extract.models import checkpoint
from fever_extract.pipeline import Pipeline


class InProcess:
    """Does each task by ``do``, in an order of its own."""

    def __init__(self, do, order=lambda tasks: tasks):
        self.do, self.order = do, order

    def run(self, tasks, stopped):
        return map(self.do, self.order(list(tasks)))


@lru_cache(2)
def pipeline(config, weights):
    return Pipeline(checkpoint.parse(config, weights, "a job's"), "cpu")


@contextmanager
def here(work, widths, job, report, *, done=None, order=lambda tasks: tasks):
    """Extract in this process; what is done, and by what, is pickled on its way as to a worker."""
    work = pickle.loads(pickle.dumps(work))

    def do(task):
        if done is not None:
            done.append(task)
        task = pickle.loads(pickle.dumps(task))
        return process(pipeline(work.config, work.weights), work, task)

    yield InProcess(do, order)
