"""Made-up items of every task of `eval --tasks`, in the fields of its set."""
import json
import random
from typing import Any

WORDS = "pool experts shared layers token finds one every by".split()


def Words(generator: random.Random, least: int, most: int) -> str:
    return " ".join(generator.choice(WORDS) for _ in range(generator.randint(least, most)))


def Lines(objects: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in objects)


def ManyItems(count: int) -> dict[str, list[dict[str, Any]]]:
    """Items of every task, by its name, of short and long texts."""
    r = random.Random(11)
    letters = ["A", "B", "C", "D"]

    def Lettered() -> dict[str, Any]:
        n = r.randint(2, 4)
        return {"choices": {"text": [Words(r, 1, 3) for _ in range(n)], "label": letters[:n]}, "answerKey": letters[r.randrange(n)]}
    return {
        "lambada": [{"text": Words(r, 1, 12)} for _ in range(count)],
        "hellaswag": [{"activity_label": "Pool [x]", "ctx_a": Words(r, 1, 4), "ctx_b": Words(r, 0, 2),
                       "endings": [Words(r, 1, 4) for _ in range(4)], "label": str(r.randrange(4))} for _ in range(count)],
        "piqa": [{"goal": Words(r, 1, 5), "sol1": Words(r, 1, 4), "sol2": Words(r, 1, 4), "label": r.randrange(2)}
                 for _ in range(count)],
        "arc_easy": [{"question": Words(r, 1, 5), **Lettered()} for _ in range(count)],
        "openbookqa": [{"question_stem": Words(r, 1, 5), **Lettered()} for _ in range(count)],
        "winogrande": [{"sentence": Words(r, 1, 3) + " _ " + Words(r, 1, 3), "option1": Words(r, 1, 1), "option2": Words(r, 1, 2),
                        "answer": str(r.randint(1, 2))} for _ in range(count)],
        "boolq": [{"passage": Words(r, 1, 20), "question": Words(r, 1, 3), "label": r.randrange(2)} for _ in range(count)],
        "siqa": [{"context": Words(r, 1, 4), "question": Words(r, 1, 3), "answerA": Words(r, 1, 3), "answerB": Words(r, 1, 3),
                  "answerC": Words(r, 1, 3), "label": str(r.randint(1, 3))} for _ in range(count)],
    }
