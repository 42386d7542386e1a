"""Let every process of a distributed training ask its part of an exam, and give all one answer.

**Whole weights** (one process, DDP, ZeRO 1 and 2): each process asks its share of the questions, so
a look takes a share of the time, too.

**Weights in pieces** (FSDP2): a process can read only while all others read, because the layers are
put together for each forward pass. The questions are shared out all the same. Before each forward
pass the processes vote whether anybody still has one to make, and who has none left makes an empty
one: what `generate` does with `synced_gpus=True`, for choices and for spoken answers alike.

Nobody waits in vain: what fails in one process is told to all, and all of them end. Only in the
middle of a forward pass is there no telling; there the process ends, and its end is noticed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar, cast

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, gather_object
from torch import distributed

from caplab.measuring.scorecard import Scorecard
from caplab.models.subject import Diverged, Subject, measuring
from caplab.models.weights import in_pieces
from caplab.questions.exam import Exam
from caplab.support.errors import BadInput

__all__ = ["Ranks", "layout_problem", "zero_stage"]

Found = TypeVar("Found")
_ADVICE = "Guard a run on one device, under DDP, FSDP2 or ZeRO 1 and 2, or score checkpoints: "
_ADVICE += "caplab watch RUN_FOLDER --base MODEL."


class Ranks:
    """The processes of one training: how many, which one this is, and who holds what weights."""

    def __init__(self, model: torch.nn.Module) -> None:
        running = distributed.is_available() and distributed.is_initialized()
        self.count = distributed.get_world_size() if running else 1
        self.number = distributed.get_rank() if running else 0
        self.pieces = in_pieces(model)
        self._midway = False  # in a forward pass that takes all processes
        self._shares: dict[str, list[Exam]] = {}

    @property
    def main(self) -> bool:
        """Tell the first process: it keeps what all have alike, and speaks for all."""
        return self.number == 0

    def together(self, work: Callable[[], Found]) -> list[Found]:
        """Do something in every process, and return what came out in each; all fail if one does."""
        found, failure = None, None
        try:
            found = work()
        except Exception as error:
            if self._midway:  # the others wait for a layer: only the end of this process frees them
                raise
            failure = error
        if self.count == 1:
            if failure is not None:
                raise failure
            return [cast(Found, found)]
        told = failure and (str(failure) or type(failure).__name__)
        kind = next((k for k in (Diverged, BadInput) if isinstance(failure, k)), RuntimeError)
        outcomes = gather_object([(found, told, kind)])
        if failure is not None:
            raise failure
        for rank, (_, told, kind) in enumerate(outcomes):
            if told:
                of = "" if kind is not RuntimeError else f"Process {rank} of {self.count} failed: "
                raise kind(f"{of}{told}")
        return [cast(Found, found) for found, _, _ in outcomes]

    def ask(
        self, subject: Subject, exam: Exam, score: Callable[[Subject, Exam], Scorecard]
    ) -> Scorecard:
        """Ask the exam, each process its share, and return the whole answers in each process."""
        if self.count == 1:
            return score(subject, exam)
        shares = self._shares.setdefault(exam.fingerprint, shared_out(exam, self.count))

        def own() -> Scorecard | None:
            with self._in_step(subject.model):
                return score(subject, shares[self.number]) if self.number < len(shares) else None

        return joined(exam, [card for card in self.together(own) if card])

    def broadcast(self, tensor: torch.Tensor) -> None:
        """Overwrite a tensor in every process with that of the first."""
        if self.count > 1:
            distributed.broadcast(tensor, src=0)

    @contextmanager
    def _in_step(self, model: torch.nn.Module) -> Iterator[None]:
        """Make as many forward passes in every process; leave the weights in pieces."""
        if not self.pieces:
            yield
            return
        failure = None

        def before(*_: Any) -> None:
            self._anybody_reads(True)
            self._midway = True

        def after(*_: Any) -> None:
            self._midway = False

        # The first of all hooks: FSDP's own put the weights together, which takes all processes.
        hooks = [model.register_forward_pre_hook(before, prepend=True)]
        hooks.append(model.register_forward_hook(after))
        try:
            yield
        except Exception as error:
            if self._midway:
                raise
            failure = error
        finally:
            for hook in hooks:
                hook.remove()
        with measuring(model):
            while self._anybody_reads(False):
                nothing = torch.zeros((1, 1), dtype=torch.long, device=_device())
                model(input_ids=nothing, use_cache=False)
        _reshard(model)
        if failure is not None:
            raise failure

    def _anybody_reads(self, reading: bool) -> bool:
        """Tell every process whether any of them is about to read."""
        vote = torch.tensor([int(reading)], device=_device())
        distributed.all_reduce(vote, op=distributed.ReduceOp.MAX)
        return bool(vote.item())


def _device() -> torch.device:
    device: torch.device = AcceleratorState().device
    return device


def _reshard(model: torch.nn.Module) -> None:
    """Cut the weights up again: what stands whole after a forward pass is a copy."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


# ---------------------------------------------------------------- shares of an exam


def shared_out(exam: Exam, processes: int) -> list[Exam]:
    """Deal the questions and texts out like cards; few questions leave some processes without."""
    active = min(processes, len(exam))
    return [
        replace(exam, questions=exam.questions[n::active], texts=exam.texts[n::active])
        for n in range(active)
    ]


def joined(exam: Exam, cards: list[Scorecard]) -> Scorecard:
    """Put the answers to all shares together, in the order of the exam."""

    def in_order(columns: list[tuple[Any, ...]], size: int) -> tuple[Any, ...]:
        places = chain.from_iterable(range(n, size, len(cards)) for n in range(len(cards)))
        found = dict(zip(places, chain.from_iterable(columns), strict=True))
        return tuple(found[place] for place in range(size))

    size, spoken = len(exam), any(card.said for card in cards)
    merged: dict[str, Any] = {
        name: in_order([getattr(card, name) for card in cards], size)
        for name in ("capability", "answer", "loglikelihoods", "characters", "group")
    }
    said = [card.said or ("",) * len(card.answer) for card in cards]
    return replace(
        cards[0],
        exam=exam.name,
        fingerprint=exam.fingerprint,
        text_losses=in_order([card.text_losses for card in cards], len(exam.texts)),
        said=in_order(said, size) if spoken else (),
        **merged,
    )


# ---------------------------------------------------------------- which trainings can be guarded


def layout_problem(model: torch.nn.Module) -> str:
    """Say why these processes cannot ask the model, whoever spread it; nothing if they can.

    The model tells, and not the settings: launchers, environment variables, plugins and arguments
    can all ask for a layout, and accelerate ignores some of them on a CPU.
    """
    found = next(filter(None, (_engine(), _spread(model))), "")
    return found and f"The guard cannot ask this model: {found}. {_ADVICE}"


def zero_stage() -> int:
    """Return DeepSpeed's stage, or 0 without DeepSpeed: from 3 on the weights are in pieces."""
    state = AcceleratorState()
    if state.distributed_type != DistributedType.DEEPSPEED:
        return 0
    return int(state.deepspeed_plugin.zero_stage)


def _engine() -> str:
    """Name an engine or a kind of parallelism that has not been tested with the guard."""
    state = AcceleratorState()
    if state.distributed_type == DistributedType.MEGATRON_LM:
        return "Megatron-LM trains it"
    if state.distributed_type == DistributedType.XLA:
        return "it is trained on XLA devices"
    if zero_stage() >= 3:
        return "DeepSpeed's ZeRO 3 cuts its weights up"
    config = getattr(state, "parallelism_config", None)
    if config is not None and config.non_data_parallel_size > 1:
        return "tensor, context or sequence parallelism spreads it over several processes"
    return ""


def _spread(model: torch.nn.Module) -> str:
    """Say which parallelism holds parts of the model elsewhere, other than FSDP2."""
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        return "DeepSpeed's ZeRO 3 cuts its weights up"
    mesh = getattr(model, "_device_mesh", None)
    sizes = dict(zip(mesh.mesh_dim_names or (), mesh.shape, strict=False)) if mesh else {}
    if sizes.get("pp", 1) > 1:
        return "pipeline parallelism spreads its layers over several processes"
    if sizes.get("tp", 1) > 1 or (getattr(model, "_tp_size", None) or 1) > 1:
        return "tensor parallelism spreads its layers over several processes"
    if not (distributed.is_available() and distributed.is_initialized()):
        return ""
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    if any(isinstance(module, FullyShardedDataParallel) for module in model.modules()):
        return "FSDP of version 1 cuts its weights up. Set fsdp_version to 2 (FSDP2)"
    cut = [p.placements for p in model.parameters() if isinstance(p, DTensor)]
    twice = any(sum(place.is_shard() for place in places) > 1 for places in cut)
    if twice or (cut and not in_pieces(model)):
        return "tensor parallelism spreads its layers over several processes"
    return ""
