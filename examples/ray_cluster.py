"""A folder on many machines, by Ray: the table comes out as on one.

Every machine must see the photographs under the same names. The output is a folder of Parquet
files; give the command again after a stop, and it goes on.

python examples/ray_cluster.py PHOTOS features/            # a cluster of this machine alone
python examples/ray_cluster.py PHOTOS features/ auto       # the one that this machine belongs to
"""

import sys

import pyarrow.parquet as pq

from fever_extract import Extractor
from fever_extract.jobs.ray import on_ray

if __name__ == "__main__":
    photos, output, *address = sys.argv[1:]
    summary = Extractor().extract_folder(photos, output, engine=on_ray(*address))
    print(summary)
    table = pq.read_table(output, columns=["path", "status", "expression"])
    print(table.slice(0, 5).to_pylist())
