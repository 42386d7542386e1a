"""Keep the weights that a rollback may return to: those of the best look, and of the latest one.

They are the trainable weights only: the whole model's, or the adapter's alone. They stay in the
memory of the CPU, or lie in a folder, where a training that was killed and resumed finds them.
Where all processes have the same weights, the first one keeps them and sends them to the others;
of weights in pieces each process keeps its own.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from caplab.support.errors import BadInput, explaining_failure
from caplab.support.files import draft_for, make_folder, read_sealed, remove, write_sealed
from caplab.watching.looks import WITHIN
from caplab.watching.ranks import Ranks

__all__ = ["Snapshot", "Snapshots", "save_as_it_stands"]

_FORMAT = "caplab snapshots 1"


@dataclass
class Snapshot:
    """The trainable weights after one step, in memory or in a file."""

    step: int
    task_loss: float
    shapes: dict[str, list[int]]
    weights: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    file: str = ""
    sha256: str = ""

    @property
    def entry(self) -> dict[str, Any]:
        """Return what the folder's list says about it."""
        names = ("step", "task_loss", "shapes", "file", "sha256")
        return {name: getattr(self, name) for name in names}


class Snapshots:
    """The best weights so far, and the latest ones until their task loss is known."""

    def __init__(self, model: torch.nn.Module, ranks: Ranks, exam: str, folder: Path | None):
        self.model, self.ranks, self.exam = model, ranks, exam
        self.folder = make_folder(folder) if folder else None
        self.best: Snapshot | None = None
        self.latest: Snapshot | None = None
        self._resumed_at = 0
        self._frozen = [(n, p) for n, p in model.named_parameters() if not p.requires_grad]

    @property
    def sentence(self) -> str:
        """Say what the two snapshots will take."""
        size, where = 2 * self.bytes, "memory" if self.folder is None else f"{self.folder}"
        amount = f"{size / 1e9:.2g} GB" if size >= 1e8 else f"{size / 1e6:.2g} MB"
        return f"A rollback keeps two copies of the trained weights, {amount}, in {where}."

    @property
    def bytes(self) -> int:
        """Count what one snapshot takes in this process."""
        return sum(part.nbytes for part in _trainable(self.model).values())

    @property
    def _keeps(self) -> bool:
        return self.ranks.main or self.ranks.pieces

    # ------------------------------------------------------------ keeping

    def keep(self, step: int, task_loss: float, *, good: bool) -> None:
        """Settle whether the latest weights are the best, and take new ones if they are good."""
        latest, best = self.latest, self.best
        if latest and (best is None or latest.task_loss <= best.task_loss):
            self.best = latest
        self.latest = None
        if good:
            parts = _trainable(self.model)
            shapes = {name: list(part.shape) for name, part in parts.items()}
            # Memory of the CPU: the device's is needed for training.
            kept = {n: p.to("cpu", copy=True) for n, p in parts.items()} if self._keeps else {}
            self.latest = Snapshot(step, task_loss, shapes, kept)
        self._write()

    def complete(self) -> None:
        """Add weights that are trained only from now on: they are still what they always were."""
        thawed = [(n, p) for n, p in self._frozen if p.requires_grad]
        if not thawed:
            return
        self._frozen = [(n, p) for n, p in self._frozen if not p.requires_grad]
        for snapshot in filter(None, (self.best, self.latest)):
            missing = {n: _part(p) for n, p in thawed if n not in snapshot.shapes}
            snapshot.shapes |= {name: list(part.shape) for name, part in missing.items()}
            kept = self._read(snapshot)
            if self._keeps:
                copies = {name: part.to("cpu", copy=True) for name, part in missing.items()}
                snapshot.weights, snapshot.file = kept | copies, ""
        self._write()

    # ------------------------------------------------------------ going back

    @torch.no_grad()
    def restore(self) -> int:
        """Put the best weights back, bit for bit; return the step that they come from."""
        best = self.best
        if best is None:
            since = f" since step {self._resumed_at}, where the training was resumed"
            raise BadInput(f"at no look was {WITHIN}{since * (self._resumed_at > 0)}")
        now = {name: _part(parameter) for name, parameter in self.model.named_parameters()}
        found = {name: list(part.shape) for name, part in now.items()}
        differing = {name for name, shape in best.shapes.items() if found.get(name) != shape}
        differing |= _trainable(self.model).keys() - best.shapes.keys()
        if differing:
            raise BadInput(
                f"the weights have other names or shapes than at step {best.step} "
                f"({', '.join(sorted(differing)[:3])})"
            )
        weights = self._read(best)
        for name in best.shapes:
            if self._keeps:
                now[name].copy_(weights[name])
            if not self.ranks.pieces:
                self.ranks.broadcast(now[name])
        return best.step

    def _read(self, snapshot: Snapshot) -> dict[str, torch.Tensor]:
        """Read a snapshot's weights in the processes that keep them; all fail if one does."""
        own: dict[str, torch.Tensor] = {}
        self.ranks.together(lambda: own.update(self._weights(snapshot)) if self._keeps else None)
        return own

    def _weights(self, snapshot: Snapshot) -> dict[str, torch.Tensor]:
        """Return a snapshot's weights, from memory or from its file."""
        if not snapshot.file or self.folder is None:
            return snapshot.weights
        from safetensors.torch import load_file

        path = self.folder / Path(snapshot.file).name
        with explaining_failure(f"The snapshot {path} cannot be read"):
            if _sha256(path) != snapshot.sha256:
                raise BadInput(f"The snapshot {path} was changed or damaged after it was saved.")
            return load_file(path)

    # ------------------------------------------------------------ the folder

    @property
    def _list(self) -> Path:
        assert self.folder is not None
        rank = f"-{self.ranks.number}-of-{self.ranks.count}" if self.ranks.pieces else ""
        return self.folder / f"snapshots{rank}.json"

    def _write(self) -> None:
        """Write what is new into the folder, then the list, and remove what is in it no more."""
        if self.folder is None:
            return
        self.ranks.together(self._write_own)

    def _write_own(self) -> None:
        if not self._keeps:
            return
        kept = {name: getattr(self, name) for name in ("best", "latest")}
        for snapshot in filter(None, kept.values()):
            if not snapshot.file:
                self._write_weights(snapshot)
        entries = {name: snapshot and snapshot.entry for name, snapshot in kept.items()}
        old = {entry["file"] for entry in self._listed().values() if entry}
        write_sealed(self._list, {"format": _FORMAT, "exam": self.exam, "kept": entries})
        assert self.folder is not None
        for file in old - {entry["file"] for entry in entries.values() if entry}:
            remove(self.folder / Path(file).name)

    def _write_weights(self, snapshot: Snapshot) -> None:
        from safetensors.torch import save_file

        assert self.folder is not None
        stem = self._list.stem.replace("snapshots", f"step-{snapshot.step}")
        path = self.folder / f"{stem}.safetensors"
        with explaining_failure(f"The snapshot {path} cannot be written"), draft_for(path) as draft:
            save_file(snapshot.weights, draft)
        snapshot.file, snapshot.sha256, snapshot.weights = path.name, _sha256(path), {}

    def _listed(self) -> dict[str, Any]:
        """Read the list of the folder, if there is one."""
        if self.folder is None or not self._list.is_file():
            return {}
        content = read_sealed(self._list, "list of snapshots")
        if content.get("format") != _FORMAT:
            raise BadInput(f"{self._list} is not a list of snapshots. Give an empty folder.")
        kept: dict[str, Any] = content["kept"] if content["exam"] == self.exam else {}
        return kept

    def begin(self, resumed_at: int) -> str:
        """Find the snapshots of the run that is resumed; remove those of an older one.

        Return a warning if a run is resumed and there are none.
        """
        self._resumed_at = resumed_at

        def found() -> dict[str, Any]:
            kept = self._listed() if self._keeps else {}
            return {name: Snapshot(**entry) for name, entry in kept.items() if entry}

        lists = self.ranks.together(found)
        own = lists[self.ranks.number if self.ranks.pieces else 0]
        steps = [{name: each.step for name, each in kept.items()} for kept in lists]
        if resumed_at and self.ranks.pieces and any(each != steps[0] for each in steps):
            raise BadInput(f"{self.folder} holds snapshots of some processes only. Empty it.")
        if not resumed_at:
            self._write()
            return ""
        self.best, self.latest = own.get("best"), own.get("latest")
        for snapshot in filter(None, (self.best, self.latest)):
            self._read(snapshot)  # a damaged file is reported now, not when it is needed
        if self.best or self.latest:
            return ""
        return (
            f"The training resumes at step {resumed_at}, and no snapshots from before are at hand: "
            "a rollback can only return to looks from here on. "
            'RegressionGuard(..., snapshots="folder") keeps them over a resume.'
        )


def _trainable(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: _part(p) for name, p in model.named_parameters() if p.requires_grad}


def _part(parameter: torch.nn.Parameter) -> torch.Tensor:
    """Return the part of a parameter that this process holds: all of it, unless in pieces."""
    held = parameter.detach()
    part: torch.Tensor = held.to_local() if hasattr(held, "to_local") else held
    return part


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_as_it_stands(model: Any, tokenizer: Any, folder: Path, ranks: Ranks) -> None:
    """Save the whole model as it is, whoever holds its weights."""
    state = None
    if ranks.pieces:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_model_state_dict(model, options=options)

    def save() -> None:
        if ranks.main:
            with explaining_failure(f"{folder} cannot be written"):
                model.save_pretrained(folder, state_dict=state)
                tokenizer.save_pretrained(folder)

    ranks.together(save)
