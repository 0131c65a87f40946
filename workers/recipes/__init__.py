"""What runs on the GPU side: plain Python, a spec in, files and metrics out; no Django, no modal.

Each recipe module has `Spec`, its validated configuration, `STEPS`, the steps that it reports progress of, and
`run(spec, job)`, which leaves its result in `job.out` and returns a JSON-ready summary of it.
"""

RECIPES = {
    "generate_dataset": "workers.recipes.generate_dataset",
    "preprocess": "workers.recipes.preprocess",
    "train": "workers.recipes.train",
    "evaluate": "workers.recipes.evaluate",
    "fetch": "workers.remote.fetch",
}
