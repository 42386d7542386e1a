"""The checks of lesson 09 tell typical mistakes apart."""

from answers import diagnoses


def transfer(levels, since=lambda job, levels: levels.loc[f"after {job}", job], jobs=slice(-1)):
    names = [name for name in levels.columns if name != "classics"]
    changes = [levels[job].iloc[-1] - since(job, levels) for job in names[jobs]]
    return sum(changes) / len(changes)


def test_09_1_wants_the_change_since_a_job_was_learned():
    diagnoses(
        "09_1",
        right=transfer,
        wrong=[
            -0.625,
            lambda levels: str(transfer(levels)),
            lambda levels: -transfer(levels),
            lambda levels: 2 * transfer(levels),
            lambda levels: transfer(levels, jobs=slice(None)),
            lambda levels: transfer(levels, since=lambda job, t: t.loc["base", job]),
            lambda levels: transfer(levels, since=lambda job, t: t[job].iloc[-2]),
            lambda levels: 0.0,
        ],
    )


def test_09_2_wants_every_job_but_the_newest():
    diagnoses(
        "09_2",
        right=lambda jobs: jobs[:-1],
        wrong=[
            ["a", "b"],
            lambda jobs: "a",
            lambda jobs: ["classics", *jobs[:-1]],
            lambda jobs: jobs,
            lambda jobs: jobs[:1],
            lambda jobs: ["a", "b"],
        ],
    )
