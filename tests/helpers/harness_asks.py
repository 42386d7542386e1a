"""Let lm-evaluation-harness ask an exam itself, as one of its `multiple_choice` tasks."""

import json

import yaml
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager


def nats(who, exam, folder, *, chat, delimiter=" ", begun=None, system=None):
    """The log-likelihoods that it finds; `begun` is the beginning of every answer."""
    rows = [
        {"prompt": q.prompt, "choices": list(q.choices), "answer": q.answer} for q in exam.questions
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "asked",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "target_delimiter": delimiter,
        "metric_list": [{"metric": "acc"}],
    } | ({"gen_prefix": begun} if begun else {})
    (folder / "asked.yaml").write_text(yaml.safe_dump(task))
    found = simple_evaluate(
        HFLM(pretrained=who.model, tokenizer=who.tokenizer, batch_size=4),
        tasks=["asked"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        apply_chat_template=chat,
        system_instruction=system,
        log_samples=True,
        bootstrap_iters=0,
    )
    samples = sorted(found["samples"]["asked"], key=lambda sample: sample["doc_id"])
    return [[value for value, _ in sample["filtered_resps"]] for sample in samples]
