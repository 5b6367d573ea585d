"""What the tiny model is about: its topics, and the words and phrases its text is made of."""

# ruff: noqa: INP001 - beside a script

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
