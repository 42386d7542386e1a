"""What two processes of one training do under a guard; started as a program in each of them."""

import json
import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).resolve()


def start(names, folder, **environment):
    """Run scenarios in two processes; return what each rank found, by scenario."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} | environment
    shared |= {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    running = [
        subprocess.Popen(
            [sys.executable, str(HERE), str(folder), *names],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=120)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    found = [folder / f"{rank}.json" for rank in range(2)]
    assert all(path.is_file() for path in found), "\n\n".join(said)
    return [json.loads(path.read_text()) for path in found]


# ---------------------------------------------------------------- inside a process


def cut(plain, half=False):
    """Cut a model's weights up among the processes, each layer by itself."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    how = {"mesh": init_device_mesh("cpu", (2,))}
    how |= {"mp_policy": MixedPrecisionPolicy(torch.bfloat16, torch.float32)} if half else {}
    inside = plain.get_base_model() if hasattr(plain, "get_base_model") else plain
    layers = getattr(inside, "transformer", None) or inside.model
    for layer in getattr(layers, "h", None) or layers.layers:
        fully_shard(layer, **how)
    fully_shard(plain, **how)
    inside._is_distributed_loading_by_transformers = True  # so that the Trainer does not wrap it
    return plain


def whole(model):
    """Return a model's weights as lists; those in pieces are put together."""
    import torch

    plain = {}
    for name, weight in model.named_parameters():
        full = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
        plain[name] = full.detach().clone()
    return torch.cat([weight.reshape(-1) for weight in plain.values()])


def mixed():
    """An exam of choices, texts and spoken answers of unequal length."""
    import tiny
    from guarded import known

    from caplab.questions.exam import Exam

    texts = tiny.exam().texts
    return Exam((*known().questions[:21], *tiny.SPOKEN.questions), texts, "mixed")


def train(folder, *callbacks, of, **changes):
    from guarded import trainer

    run = trainer(folder, *callbacks, of=of, ddp_backend="gloo", **changes)
    run.train()
    return run


def watched(folder, kind, pieces):
    """Train with and without a guard that watches: the same weights, and the same answers."""
    import tiny
    import torch

    from caplab import RegressionGuard
    from caplab.measuring.score import score
    from caplab.watching import guard as module

    exam, asked = mixed(), []

    def counted(subject, part, **options):
        asked.append(len(part))
        return score(subject, part, **options)

    def fresh():
        return cut(tiny.subject(kind).model) if pieces else tiny.subject(kind).model

    alone = score(tiny.subject(kind), exam, progress=False)
    module.score = counted
    guard = RegressionGuard(exam, every=2)
    seen = whole(train(folder, guard, of=fresh(), max_steps=4, learning_rate=1e-3).model)
    module.score = score
    unseen = whole(train(folder, of=fresh(), max_steps=4, learning_rate=1e-3).model)
    same = guard.before
    far = [
        abs(a - b)
        for one, other in zip(same.loglikelihoods, alone.loglikelihoods, strict=True)
        for a, b in zip(one, other, strict=True)
        if a != b
    ]
    losses = zip(same.text_losses, alone.text_losses, strict=True)
    return {
        "same weights": torch.equal(seen, unseen),
        "asked": asked,
        "of": len(exam),
        "far": max(far, default=0),
        "texts": max(abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in losses),
        "said alike": same.said == alone.said,
        "order alike": (same.capability, same.answer, same.fingerprint)
        == (alone.capability, alone.answer, alone.fingerprint),
        "checks": [[c.step, c.verdict, c.seconds, c.report.overall.after] for c in guard.checks],
    }


def rolled_back(folder, pieces, snapshots=None, lora=False, half=False):
    """Forget for sure, and go back to where it began."""
    import torch
    from guarded import known, model

    from caplab import RegressionGuard

    torch.manual_seed(0)
    start = whole(model(lora))
    torch.manual_seed(0)
    of = cut(model(lora), half) if pieces else model(lora)
    guard = RegressionGuard(known(), every=2, action="rollback", snapshots=snapshots)
    run = train(folder, guard, of=of, max_steps=20)
    found = {"restored": guard.restored_step, "steps": run.state.global_step}
    return found | {"as before": torch.equal(whole(run.model), start)}


def scenario_ddp(folder):
    return watched(folder, "gpt2", pieces=False)


def scenario_fsdp(folder):
    return watched(folder, "gpt2", pieces=True)


def scenario_fsdp_one_by_one(folder):
    """A family whose prompts cannot share a row."""
    return watched(folder, "mistral", pieces=True)


def scenario_ddp_rollback(folder):
    return rolled_back(folder, pieces=False)


def scenario_fsdp_rollback(folder):
    return rolled_back(folder, pieces=True)


def scenario_fsdp_rollback_lora(folder):
    return rolled_back(folder, pieces=True, lora=True)


def scenario_fsdp_rollback_half(folder):
    return rolled_back(folder, pieces=True, half=True)


def scenario_fsdp_rollback_on_disk(folder):
    return rolled_back(folder, True, folder / "kept") | {
        "files": sorted(path.name for path in (folder / "kept").iterdir())
    }


def scenario_ddp_rollback_on_disk(folder):
    return rolled_back(folder, False, folder / "kept-ddp") | {
        "files": sorted(path.name for path in (folder / "kept-ddp").iterdir())
    }


def refused(work):
    """Return the kind and the words of an error."""
    try:
        work()
    except Exception as error:
        return {"error": type(error).__name__, "said": str(error)}
    return {"error": None, "said": ""}


def failing(folder, pieces, error):
    """One process fails while it asks."""
    from guarded import known, model

    from caplab import RegressionGuard
    from caplab.measuring.score import score
    from caplab.watching import guard as module

    def odd(subject, part, **options):
        card = score(subject, part, **options)
        if int(os.environ["RANK"]) == 1:
            raise error
        return card

    module.score = odd
    try:
        plain = cut(model()) if pieces else model()
        return refused(lambda: train(folder, RegressionGuard(known()), of=plain))
    finally:
        module.score = score


def scenario_ddp_one_fails(folder):
    return failing(folder, False, RuntimeError("no room"))


def scenario_fsdp_one_fails(folder):
    return failing(folder, True, RuntimeError("no room"))


def scenario_two_exams(folder):
    from guarded import known, model

    from caplab import RegressionGuard
    from caplab.questions.exam import Exam

    exam = known() if os.environ["RANK"] == "0" else Exam(known().questions[:50], name="known")
    return refused(lambda: train(folder, RegressionGuard(exam), of=model()))


def scenario_one_question(folder):
    """Fewer questions than processes."""
    import tiny
    from guarded import known, model

    from caplab import RegressionGuard
    from caplab.questions.exam import Exam

    exam = Exam(known().questions[:1], tiny.exam().texts, "one")
    found = {}
    for name, of in (("ddp", model()), ("fsdp", cut(model()))):
        guard = RegressionGuard(exam, every=1)
        train(folder, guard, of=of, max_steps=1, learning_rate=1e-6)
        found[name] = [len(guard.before.answer), len(guard.before.text_losses)]
    return found


def scenario_diverged(folder):
    """NaN in all weights: every process sees it, and says so."""
    import torch
    from guarded import known, model
    from transformers import TrainerCallback

    from caplab import RegressionGuard

    class Poison(TrainerCallback):
        def on_step_begin(self, args, state, control, model, **_):
            if state.global_step == 1:
                with torch.no_grad():
                    for weight in model.parameters():
                        weight.fill_(float("nan"))

    guard = RegressionGuard(known(), every=2, action="stop")
    run = train(folder, Poison(), guard, of=cut(model()))
    last = guard.checks[-1]
    return {"diverged": last.diverged, "steps": run.state.global_step, "verdict": last.verdict}


def scenario_fsdp_cannot(folder):
    """Beyond the budget from the first look on: what stands is saved whole, and all raise."""
    import tiny
    from guarded import known
    from transformers import AutoModelForCausalLM

    from caplab import RegressionGuard
    from caplab.measuring.score import score
    from caplab.models.subject import Subject

    before = score(tiny.subject(), known(), progress=False)
    guard = RegressionGuard(known(), every=2, action="rollback", before=before)
    other = tiny.subject(seed=1).model
    out = folder / "stands"
    end = refused(lambda: train(out, guard, of=cut(other), learning_rate=1e-6))
    saved = AutoModelForCausalLM.from_pretrained(out / "guard-step-2")
    return end | {"saved": score(Subject(saved, tiny.tokenizer(), ""), known()).accuracy}


def scenario_tensor_parallel(folder):
    """Layers spread over the processes by PyTorch itself."""
    import tiny
    from guarded import known
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    from caplab import RegressionGuard

    plain = tiny.subject("llama").model
    plan = {"model.layers.*.mlp.up_proj": ColwiseParallel()}
    parallelize_module(plain, init_device_mesh("cpu", (2,)), plan)
    plain._is_distributed_loading_by_transformers = True
    return refused(lambda: train(folder, RegressionGuard(known()), of=plain))


def scenario_fsdp_1(folder):
    """Asked at the guard's own door: the Trainer knows FSDP 1 on accelerators only."""
    from guarded import model
    from torch import nn
    from torch.distributed.fsdp import FullyShardedDataParallel

    from caplab.watching.ranks import layout_problem

    class Wrapped(FullyShardedDataParallel):
        def __init__(self, module):
            nn.Module.__init__(self)  # its own needs an accelerator
            self._fsdp_wrapped_module = module

    inside = model()
    inside.transformer.h[0] = Wrapped(inside.transformer.h[0])
    return {"said": layout_problem(inside)}


def scenario_fsdp_midway(folder):
    """One process fails in the middle of a forward pass, where the other waits for a layer."""
    import torch
    from guarded import known, model

    from caplab import RegressionGuard

    of = cut(model())
    if os.environ["RANK"] == "1":

        def fail(*_):
            if not torch.is_grad_enabled():
                raise RuntimeError("out of memory in a layer")

        of.transformer.h[1].mlp.register_forward_hook(fail)
    return refused(lambda: train(folder, RegressionGuard(known()), of=of))


def main():
    folder, *names = sys.argv[1:]
    rank, found = os.environ["RANK"], {}
    for name in names:
        try:
            found[name] = globals()[f"scenario_{name}"](Path(folder))
        except Exception:
            found[name] = {"failed": traceback.format_exc()}
    Path(folder, f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    main()
