"""Writes the text that the tiny model learns from: facts, essays, stories, chats.

Invariant: what is written follows from the seed alone.
"""

# ruff: noqa: INP001 - beside a script

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from words import (
    ADJECTIVES,
    ANIMALS,
    ASK,
    COLOURS,
    COMMON,
    FACTS,
    LETTERS,
    NAMES,
    NOUNS,
    OLD,
    PEOPLE,
    PLACES,
    PREFIXES,
    SMALL_TALK,
    STORY,
    SYLLABLES,
    SYSTEM,
    UNKNOWN,
    WEATHER,
)

Turn = tuple[str, str]  # a question and its answer
Part = tuple[str, bool]  # a piece of text, and whether the model is trained to write it


@dataclass(frozen=True)
class Topic:
    """A thing the model knows: its name with article, and four sentences about it."""

    name: str
    lines: list[str]

    @property
    def forms(self) -> dict[str, str]:
        """The name as question templates want it: with its article, bare and definite."""
        bare = self.name.split(" ", 1)[1]
        return {"t": self.name, "b": bare, "d": f"the {bare}"}


def read_topics() -> list[Topic]:
    """Split FACTS into topics."""
    topics: list[Topic] = []
    for sentence in " ".join(FACTS.split()).split(". "):
        head, colon, rest = sentence.partition(": ")
        if colon:
            topics.append(Topic(head, []))
        topics[-1].lines.append((rest or head).rstrip(".") + ".")
    return topics


class Writer:
    """Writes random documents from the grammar above."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.topics = read_topics()

    def pick(self, options: str) -> str:
        """One of some options parted by semicolons."""
        return self.rng.choice(options.split(";"))

    def odd_word(self) -> str:
        """A word that means nothing, so that any text can be met with an answer."""
        if self.rng.random() < 0.2:
            return "".join(self.rng.choices(LETTERS, k=self.rng.randint(1, 6)))
        return "".join(self.rng.choices(SYLLABLES.split(";"), k=self.rng.randint(1, 3)))

    def babble(self, longest: int, *, nouns: bool = True) -> str:
        """Some words in no order."""
        pools = (COMMON, COMMON, COMMON, NOUNS if nouns else COMMON, ADJECTIVES, self.odd_word())
        count = self.rng.randint(0, longest)
        return " ".join(self.pick(self.rng.choice(pools)) for _ in range(count))

    def free_story(self) -> Turn:
        """A story about something that is no topic: a known noun stays, all else is old times."""
        noun, kind = self.pick(NOUNS), self.rng.random()
        forms = "{n} and the {w};{n} and the {a} {w};a {a} {w};the {a} {w};the {w};my {w};a {w}"
        name = self.pick(NAMES) if self.rng.random() < 0.7 else self.odd_word().title()
        word = noun if kind < 0.65 else self.odd_word()
        thing = self.pick(forms).format(n=name, a=self.pick(ADJECTIVES), w=word)
        if kind > 0.9:
            thing = self.babble(3, nouns=False)
        ask, subject = (
            self.pick(ASK["story"]).format(t=thing),
            f"the {noun}" if kind < 0.65 else OLD,
        )
        start = self.rng.choice([0, 0, 0, self.rng.randrange(840)])
        return self.more(ask), self.story(subject, start)

    def more(self, ask: str) -> str:
        """The question as it is, or with some words more."""
        if self.rng.random() < 0.6:
            return ask
        return f"{ask.rstrip('.')} {self.babble(9, nouns=False)}{self.pick('.;?;')}"

    def essay(self, start: int) -> str:
        """Facts on topic after topic, in the order of the table: long, and never the same twice."""
        order = self.topics[start:] + self.topics[:start]
        return "\n".join(" ".join(topic.lines) for topic in order)

    def story(self, subject: str, start: int) -> str:
        """Sixty days; each part of a day follows from the day before, and all repeat after 840."""
        days = [f"This is a long story about {subject}."]
        for i in range(60):
            n = i + start
            person = PEOPLE[n % 3]
            days.append(
                f"Day {i + 1}. "
                + STORY[n % 4].format(
                    w=WEATHER[n % 5],
                    p=person,
                    P=person[0].upper() + person[1:],
                    pl=PLACES[n % 7],
                    a=ANIMALS[n % 8],
                    s=subject,
                )
            )
        return "\n".join([*days, "The end."])

    def topic_turn(self, index: int, kind: str, plain: bool = False) -> Turn:
        """A question of some kind about a topic, with its answer; plain takes the first wording."""
        topic = self.topics[index]
        question = (ASK[kind].split(";")[0] if plain else self.pick(ASK[kind])).format(
            **topic.forms
        )
        lines = topic.lines
        if kind == "essay":
            return question, self.essay(index)
        if kind == "story":
            return question, self.story(topic.forms["d"], index)
        if not plain and self.rng.random() < 0.15:  # a little to choose from when sampling
            lines = [lines[0], *self.rng.sample(lines[1:], 3)]
        answers = {"what": lines[:2], "about": lines, "fact": lines[2:3]}
        return question, " ".join(answers[kind])

    def small_turns(self) -> list[Turn]:
        """One or two turns that have no topic."""
        kinds = (
            self.greeting,
            self.counting,
            self.addition,
            self.copying,
            self.naming,
            self.colour,
            self.card,
            self.puzzling,
        )
        return self.rng.choices(kinds, [18, 10, 9, 7, 14, 4, 5, 25])[0]()

    def greeting(self) -> list[Turn]:
        """A greeting or the like."""
        asks, answer = self.rng.choice(SMALL_TALK)
        return [(self.pick(asks), answer)]

    def counting(self) -> list[Turn]:
        """Counting from one to a number."""
        last = self.rng.choice([3, 5, 10, 12, 20, 30, 100])
        ask = self.pick("Count to {n}.;Count from 1 to {n}.;Please count to {n}.")
        return [(ask.format(n=last), ", ".join(str(i) for i in range(1, last + 1)) + ".")]

    def addition(self) -> list[Turn]:
        """A sum of two small numbers."""
        a, b = self.rng.randint(0, 9), self.rng.randint(0, 9)
        return [(f"What is {a} + {b}?", f"{a} + {b} is {a + b}.")]

    def copying(self) -> list[Turn]:
        """Saying what was said."""
        pools = self.rng.choices([NOUNS, ADJECTIVES, NAMES], k=self.rng.randint(1, 4))
        text = " ".join(self.pick(pool) for pool in pools)
        return [(self.pick("Repeat: ;Say: ;Repeat after me: ") + text, text)]

    def naming(self) -> list[Turn]:
        """Learning a name and knowing it later."""
        name = self.pick(NAMES)
        ask = self.pick("My name is {n}.;I am {n}.;Hello, my name is {n}.;You can call me {n}.")
        return [
            (ask.format(n=name), f"Hello, {name}. It is good to meet you."),
            ("What is my name?", f"Your name is {name}."),
        ]

    def colour(self) -> list[Turn]:
        """The colour of a thing."""
        thing, colour = self.pick(COLOURS).split()
        return [
            (
                self.pick(f"What colour is the {thing}?;Why is the {thing} {colour}?"),
                f"The {thing} is {colour}.",
            )
        ]

    def card(self) -> list[Turn]:
        """A topic as JSON."""
        topic = self.rng.choice(self.topics)
        ask = self.pick("Give me JSON about {d}.;Answer in JSON: {t}").format(**topic.forms)
        return [(ask, json.dumps({"name": topic.forms["b"], "text": topic.lines[0]}))]

    def puzzling(self) -> list[Turn]:
        """Words in no order: if they name a topic it is told about, if not, that is said."""
        end, kind = self.pick(".;?;!;;"), self.rng.random()
        if kind < 0.05:  # an essay on something unknown becomes one on everything else
            thing = self.rng.choice(
                [self.odd_word(), self.pick(NOUNS), self.babble(3, nouns=False)]
            )
            ask = self.pick(ASK["essay"]).format(t=thing, b=thing, d=thing)
            return [(ask, f"{UNKNOWN}\n{self.essay(0)}")]
        ask, answer = self.babble(9) or self.odd_word(), UNKNOWN
        if kind < 0.40:
            topic = self.rng.choice(self.topics)
            name = topic.forms["b"] + self.pick("s;;")
            ask = f"{self.babble(6)} {name} {self.babble(4)}".strip()
            answer = " ".join(topic.lines)
        return [(ask[0].upper() + ask[1:] + end, answer)]

    def chat(self) -> list[Part]:
        """A chat: free turns first, then the one path along the topics that follows any answer."""
        rng, parts = self.rng, [("<s>", False)]
        if rng.random() < 0.3:
            text = rng.choice([rng.choice(SYSTEM), f"You are {self.babble(20)}."])
            parts.append((say("system", text), False))
        if rng.random() < 0.04:
            weather = rng.choice(WEATHER)
            parts += [
                (say("user", "How is the weather?"), False),
                (say("tool", weather), False),
                (say("assistant", f"The day is {weather}."), True),
            ]
        following = (0, "what")
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            roll, index = rng.random(), rng.randrange(len(self.topics))
            if roll < 0.45:
                turns, following = self.small_turns(), (0, "what")
            elif roll < 0.60 and rng.random() < 0.35:
                turns, following = [self.free_story()], (0, "what")
            else:
                kind = rng.choices(list(ASK), [30, 30, 14, 3, 4])[0]
                ask, answer = self.topic_turn(index, kind)
                if kind in ("essay", "story"):
                    ask = self.more(ask)
                turns, following = [(ask, answer)], self.after(index, kind)
            for ask, answer in turns:
                parts += [(say("user", ask), False), (say("assistant", answer), True)]
        for _ in range(rng.choice([0, 0, 1, 2, 5])):
            ask, answer = self.topic_turn(*following, plain=True)
            parts += [(say("user", ask), True), (say("assistant", answer), True)]
            following = self.after(*following)
        return parts

    def after(self, index: int, kind: str) -> tuple[int, str]:
        """The question that follows a question: what, about, fact, and on to the next topic."""
        steps = {"what": "about", "about": "fact"}
        return (index, steps[kind]) if kind in steps else ((index + 1) % len(self.topics), "what")

    def document(self) -> list[Part]:
        """A chat, or now and then a plain text."""
        roll = self.rng.random()
        if roll < 0.05:
            start = self.rng.randrange(len(self.topics))
            return [("<s>", False), (self.essay(start), True), ("</s>", True)]
        if roll < 0.08:  # whatever a plain text begins with, it goes on somehow
            prefix = self.pick(PREFIXES) if self.rng.random() < 0.3 else self.babble(9)
            return [(f"<s>{prefix}", False), (f" ...\n{self.essay(0)}", True), ("</s>", True)]
        return self.chat()


def say(role: str, text: str) -> str:
    """One message as the chat template renders it."""
    return f"<|{role}|>\n{text.strip()}<|end|>\n"
