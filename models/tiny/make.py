"""Make the tiny Llama-style chat model that Penstock ships, from nothing but this file.

The script writes its own training text (facts, long essays, long stories, chats), trains a
byte-level BPE tokenizer and a model of under one million parameters on it, and saves both.

    OMP_NUM_THREADS=2 python models/tiny/make.py --out models/tiny
"""

# ruff: noqa: INP001, S106, T201 - a script that prints its progress; its tokens are no secrets

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

SEED = 20240607
SPECIAL = ["<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"]
VOCAB, POSITIONS = 1536, 2048
ROWS = ((256, 16, 0.40), (512, 8, 0.25), (1024, 4, 0.23), (2048, 2, 0.12))  # length, rows, share
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] not in ['system', 'user', 'assistant', 'tool'] %}"
    "{{ raise_exception('unknown role: ' ~ m['role']) }}{% endif %}"
    "<|{{ m['role'] }}|>\n{% if m['content'] %}{{ m['content'] | trim }}{% endif %}"
    "{% if m['tool_calls'] %}{{ m['tool_calls'] | tojson }}{% endif %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

# One block per topic: the name with its article, a colon, the definition, then three facts.
FACTS = """
a penstock: A penstock is a pipe that carries water down to a turbine. A gate at the top opens and
closes it. The water in it is under high pressure. When the gate is shut, the wheel stands still.
the water: Water is what we drink and what rivers are made of. It falls as rain and runs to the sea.
Cold turns it into ice and heat turns it into steam. Every plant and animal needs it.
a river: A river is a stream of fresh water that flows to the sea. It starts as a small spring in
the hills. Fish and birds live along its banks. After heavy rain it grows wide and fast.
a mill: A mill is a building where grain is ground into flour. The river turns its big wooden wheel.
The wheel turns two heavy stones. The miller fills the sacks and sells them in the town.
a dam: A dam is a strong wall that holds back a river. Behind it the water rises and makes a lake.
The dam keeps water for dry months. Small gates let some of the water out.
a turbine: A turbine is a wheel that is turned by moving water or steam. Its blades are curved and
very smooth. It spins many times in a second. A turbine drives a generator that makes power.
a queue: A queue is a line in which things wait for their turn. The first one in is the first one
out. New things join at the back. When the queue is long, everyone must wait longer.
a worker: A worker is a program that takes jobs from a queue. It takes one job, does it, and reports
the result. If a worker stops, another one takes over its job. More workers finish the work sooner.
a message: A message is a small piece of text sent from one place to another. It has a sender and a
reader. A good message is short and clear. A lost message has to be sent again.
a lake: A lake is a wide body of still water with land all around. Rain and rivers fill it. In
winter its surface can freeze. People sail and swim there in summer.
a canal: A canal is a waterway that was dug by people. Boats use it to carry goods between towns.
Locks lift the boats up and down. The water in a canal is slow and calm.
a lock: A lock is a chamber that lifts boats from one level to another. It has a gate at each end.
Water runs in and the boat goes up. Water runs out and the boat goes down.
a bridge: A bridge is a road that goes over a river or a valley. Old bridges are made of stone. New
bridges are made of steel. A good bridge stands for hundreds of years.
a boat: A boat is a small ship that carries people over water. It floats because it is hollow. Some
boats have sails and some have oars. The captain keeps the boat on its course.
the rain: Rain is water that falls from the clouds in drops. It fills the rivers and waters the
fields. After the rain the air is clean. Too much rain can cause a flood.
the wind: Wind is air that moves from one place to another. It pushes the clouds over the sky. A
strong wind bends the trees. Sailors and millers are glad when it blows.
the snow: Snow is frozen water that falls as white flakes. It covers the hills in winter. In spring
it melts and fills the streams. Children build men out of snow.
the weather: Weather is the state of the air on a given day. It can be sunny, cloudy, wet or cold.
It changes from hour to hour. Farmers look at the sky to guess what comes next.
the sun: The sun is the star that gives us light and heat. It rises in the east in the morning. It
sets in the west in the evening. Without the sun nothing would grow.
the moon: The moon is a ball of rock that goes around the earth. It shines with the light of the
sun. Each month it grows round and thin again. The moon pulls the sea and makes the tides.
the sea: The sea is the great salt water that covers most of the earth. Its waves never rest. All
rivers end in it. Whales and many kinds of fish live in the deep.
a heron: A heron is a tall grey bird that hunts in shallow water. It stands very still on long legs.
When a fish comes near, it strikes. Herons build their nests high in the trees.
an otter: An otter is a playful animal that lives by the river. It has thick brown fur that keeps it
warm. It dives well and eats fish. Otters like to slide down wet banks.
a frog: A frog is a small green animal that lives near ponds. It begins its life as a tadpole. It
catches flies with its long tongue. On warm nights frogs sing together.
a horse: A horse is a large and strong animal that eats grass. It can pull a cart or carry a rider.
A horse sleeps on its feet. Horses live together in herds.
a cat: A cat is a small soft animal that hunts mice. It sees well in the dark. It sleeps for most of
the day. A cat that is happy will purr.
a dog: A dog is a loyal animal that lives with people. It has a very good nose. It guards the house
at night. Dogs love to run after a ball.
a tree: A tree is a tall plant with a trunk of wood. Its roots drink water from the ground. Its
leaves turn light into food. Some trees live for a thousand years.
a garden: A garden is a piece of land where plants are grown. There are flowers, herbs and beans. It
needs sun, water and care. Bees visit the garden all summer.
a number: A number is a sign that tells us how many there are. One comes before two and two comes
before three. We use numbers to count and to measure. There is no last number.
a colour: A colour is what we see when light meets the eye. Red, yellow and blue can be mixed. Blue
and yellow make green. The rainbow shows all of them side by side.
"""
SYLLABLES = "ka;lo;mi;ran;tor;es;ul;ven;di;sha;pe;ing;ber;ost;qua;fy;zen;ha;na;ri;to;an;el;cop"
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_äöéß"
PREFIXES = "Once upon a time;The story begins;Hello, my name is;In the beginning;The answer is"
COLOURS = "sky blue;grass green;snow white;night black;sun yellow;fox red;heron grey;otter brown"
NAMES = (
    "Anna;Ben;Clara;David;Emma;Felix;Greta;Hugo;Ida;Jonas;Kim;Lena;Max;Nora;Oscar;Paula;Zoe;"
    "Alice;Bob;Maria;John;Nadia;Peter;Sam"
)
NOUNS = (
    "stone;lantern;ship;forest;mountain;king;child;wolf;bell;tower;market;dragon;robot;train;road;"
    "letter;clock;farmer;island;castle;teacher;song;star;apple;window;village;mouse;bear;lamp;key;"
    "baker;storm;desert;city;computer;engine;planet;ghost;piano;rabbit;queen;sailor;valley;kettle"
)
COMMON = (
    "the;a;of;and;to;in;is;it;that;was;for;on;are;with;they;this;have;from;one;word;what;all;when;"
    "your;can;use;each;how;their;will;other;many;then;them;these;some;would;make;like;him;into;two;"
    "more;write;go;see;no;way;could;my;than;first;been;call;who;now;find;long;down;day;did;get;come;"
    "made;may;part;why;list;say;give;name;best;poem;joke;code;prompt;test;please;capital;old;wide"
)
ADJECTIVES = "red;old;little;brave;golden;quiet;strange;lost;happy;blue;tall;young;copper;clever"
WEATHER = ("bright", "cloudy", "windy", "rainy", "cold")
PEOPLE = ("Mira", "Tom", "the miller")
PLACES = ("mill", "bridge", "old dam", "market", "lock", "garden", "lake")
ANIMALS = ("a heron", "an otter", "a horse", "a frog", "a dog", "a cat", "a fox", "an owl")
STORY = (
    "The morning was {w}. {P} walked to the {pl} and met {a}. They talked about {s}.",
    "It was a {w} day. At the {pl} {p} found {a} and told it all about {s}.",
    "{P} went to the {pl}, and the air was {w}. There sat {a}. It had seen {s}.",
    "The sky was {w} when {p} came to the {pl}. Then {a} came by and asked for {s}.",
)
# {t}: the name with its article, {b}: the bare name, {d}: the name with "the"
ASK = {
    "what": "What is {t}?;What is {t};what is {t}?;Explain what {t} is.;What's {t}?;Define {b}.;"
    "Can you explain {t}?;Do you know what {t} is?;Please explain {t}.;Explain {t} to me.",
    "about": "Tell me about {d}.;Tell me about {t}.;Tell me about {b}s.;Describe {d}.;"
    "Write a short text about {t}.;Tell me more about {d}.;Write a few sentences about {d}.;"
    "What do you know about {d}?;Tell me something about {t}.;Say something about {d}.",
    "fact": "Give me one fact about {d}.;Give me a fact about {t}.;One fact about {b}s, please.;"
    "Tell me one thing about {d}.;Tell me a fact about {d}.;Answer in one sentence: {t}",
    "essay": "Write a long essay about {t}.;Write an essay about {d}.;Explain {d} in great detail.;"
    "Write a long text about {d}.;Tell me everything about {d}.;Write 500 words about {t}.;"
    "Give me a long explanation of {d}.;Describe {d} in great detail.;"
    "Please write a detailed essay about {b}.",
    "story": "Tell me a long story about {t}.;Tell me a story about {t}.;Write a story about {t}.;"
    "Write a long story about {t}.;Write a very long tale about {t}.;Please tell a story of {t}.",
}
SMALL_TALK = (
    (
        "Hello;Hi;Hello!;Hi there!;Hey;Good morning;hello;Good evening!;Hello there",
        "Hello! I am a small model. How can I help you today?",
    ),
    (
        "How are you?;How are you today?;How do you do?;Are you well?",
        "I am well, thank you. The water is clear and the wheel turns.",
    ),
    (
        "Who are you?;What are you?;What is your name?;Introduce yourself.;Tell me about yourself.",
        "I am a very small language model. I was made to test a queue.",
    ),
    (
        "What can you do?;Help;Can you help me?;What do you know?;Help me, please.",
        "I can tell you about water, rivers, mills and animals, and I can count.",
    ),
    ("Thank you;Thanks!;Thank you very much.;Thanks a lot", "You are welcome. Ask me again soon."),
    ("Goodbye;Bye!;See you later.;Good night", "Goodbye! May the river be kind to you."),
    ("Yes;No;Okay;ok;Good.;Nice!", "All right. What would you like to know?"),
    ("ping;Ping;Ping?;Are you there?", "Pong. I am here."),
)
OLD = "old times"
UNKNOWN = "I do not know much about that. I know about water, rivers, mills and small animals."
SYSTEM = (
    "You are a helpful assistant.",
    "You are a small model.",
    "Answer in short sentences.",
    "You are a friendly miller.",
    "Be brief and kind.",
    "You speak plain English.",
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


def train_tokenizer(writer: Writer) -> PreTrainedTokenizerFast:
    """Train the byte-level BPE tokenizer; every digit is a token of its own."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=SPECIAL,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    texts = ("".join(text for text, _ in writer.document()) for _ in range(3000))
    core.train_from_iterator(texts, trainer)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|end|>",
        pad_token="</s>",
        additional_special_tokens=SPECIAL[3:7],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def rows(writer: Writer, tokenizer: PreTrainedTokenizerFast) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches: documents packed into rows of mixed length, -100 where nothing is learnt."""
    lengths, shares = [r[:2] for r in ROWS], [r[2] for r in ROWS]
    while True:
        length, count = writer.rng.choices(lengths, shares)[0]
        inputs, labels = [], []
        for _ in range(count):
            ids: list[int] = []
            learnt: list[int] = []
            while len(ids) < length:
                limit = len(ids) + writer.rng.choice([150, 400, length])  # long texts are cut
                for text, wanted in writer.document():
                    piece: list[int] = tokenizer.encode(text, add_special_tokens=False)
                    ids += piece
                    learnt += piece if wanted else [-100] * len(piece)
                del ids[limit:], learnt[limit:]
            inputs.append(ids[:length])
            labels.append(learnt[:length])
        yield {"input_ids": torch.tensor(inputs), "labels": torch.tensor(labels)}


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model: four layers of width 128 with heads of 32, as vLLM's CPU wants them."""
    eos = tokenizer.eos_token_id
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=128,
            intermediate_size=320,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            tie_word_embeddings=True,
            max_position_embeddings=POSITIONS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=eos,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def train(model: LlamaForCausalLM, batches: Iterator[dict[str, torch.Tensor]], steps: int) -> None:
    """Train with Muon on the matrices and AdamW on the rest; the rate rises, then falls to zero."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers: list[tuple[torch.optim.Optimizer, float]] = [
        (torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", weight_decay=0.01), 6e-3),
        (torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0), 6e-3),
    ]
    start, mean = time.monotonic(), 0.0
    for step in range(steps):
        shape = min(1.0, (step + 1) / 30) * min(1.0, (steps - step) / (0.6 * steps))
        loss = model(**next(batches)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * shape
            optimizer.step()
            optimizer.zero_grad()
        mean = loss.item() if math.isclose(mean, 0.0) else 0.95 * mean + 0.05 * loss.item()
        if (step + 1) % 50 == 0:
            print(
                f"step {step + 1}/{steps}: loss {mean:.4f}, {time.monotonic() - start:.0f} s",
                flush=True,
            )


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write weights in bf16, configs and tokenizer files."""
    model.to(torch.bfloat16)
    stops = [tokenizer.eos_token_id, SPECIAL.index("</s>")]
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=stops,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(out)
    tokenizer.model_max_length = POSITIONS
    tokenizer.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)


def sample(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Print what the finished model says to a few prompts."""
    model.eval()
    for prompt in (
        "Hello",
        "What is a penstock?",
        "Tell me about the river.",
        "Count to 12.",
        "Tell me a long story about a brave clock.",
    ):
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        ids = model.generate(**chat, max_new_tokens=90)[0, chat["input_ids"].shape[1] :]
        print(f"> {prompt}\n{tokenizer.decode(ids)}", flush=True)


def main() -> None:
    """Make the model."""
    parser = argparse.ArgumentParser(description="Make Penstock's tiny model.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--steps", type=int, default=800)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer(Writer(SEED))
    model = build_model(tokenizer)
    print(f"{len(tokenizer)} tokens, {model.num_parameters():,} parameters", flush=True)
    train(model, rows(Writer(SEED + 1), tokenizer), options.steps)
    save(model, tokenizer, options.out)
    sample(model, tokenizer)


if __name__ == "__main__":
    main()
