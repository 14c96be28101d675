"""What the leaderboard's own guide says."""

# Its 15 options, in its order.
GUIDE_OPTIONS = (
    "--model",
    "--backend",
    "--model-args",
    "--nproc",
    "--benchmarks",
    "--include-extra",
    "--judge",
    "--output-dir",
    "--dataset-dir",
    "--submit",
    "--submission-configs",
    "--rerun",
    "--no-accelerate",
    "--verbose",
    "--no-rich",
)
