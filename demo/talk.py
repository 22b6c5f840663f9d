"""Small talk, plans, troubles, praise and what lies outside the world; and what may stand around a prompt."""

from demo import world
from demo.everyday import FACTS, Row, Topic

_ONE_ROW: tuple[Row, ...] = ({},)

TALK = (
    Topic(
        world.PLANS,
        (
            "i want to {x} {on sunday|next week|this year|soon}. Any advice?",
            "how can i {x}?",
            "can you help me to {x}?",
            "my {sister|friend|aunt} wants to {x}. What would you say?",
            "i plan to {x}. Is that a good idea?",
            "what do i need to know to {x}?",
            "tell me how to {x}, please.",
            "{soon|tomorrow|on sunday} i am going to {x}.",
            "i think i will {x}. Have you any advice?",
            "is it hard to {x}?",
            "what do you think: should i {x}?",
        ),
        ("i am planning to {x}. What do you think?", "what should i know before i {x}?"),
        (
            "{that is a good plan|what a nice plan|good idea}. {tip}.",
            "my advice is simple: {tip}.",
            "if you want to {x}, {tip}. {Have fun.|Good luck.|Take your time.}",
        ),
    ),
    Topic(
        world.TROUBLES,
        (
            "my {x} is {fault} {today|again|this morning|lately}.",
            "why is my {x} so {fault}?",
            "my {sister|boss|neighbour} says my {x} is {fault}.",
            "what can i do if my {x} is {fault}?",
            "the {x} was {fault}. What now?",
            "there is a problem with my {x}. It is {fault}.",
            "is it bad that the {x} is {fault}?",
            "the {x} seems {fault}.",
            "i think my {x} is {fault} {when}.",
            "my {x} is not good, it is {fault}.",
        ),
        ("i have a problem: my {x} is {fault}.", "i think the {x} is too {fault}."),
        (
            "{i am sorry to hear that|that is a pity|oh dear}. {You could {fix}.|Try this: {fix}.}",
            "{fix}. {That should help.|Then it will be better.}",
            "when a {x} is {fault}, it helps to {fix}.",
        ),
    ),
    Topic(
        _ONE_ROW,
        (
            "{hello|hi|good morning|good evening}{, how are you?|, my friend.|.}",
            "{hello|hi|good day}. {i am|my name is} {anyname}.",
            "how are you {today|this morning}?",
            "how do you feel?",
            "good afternoon, my name is {anyname}.",
            "is everything well with you {when}?",
            "hello there.",
        ),
        ("hello there, it is {anyname}.", "are you well {tonight|today}?", "good afternoon, how is it going?"),
        (
            "{hello|hi|good day}. {how can i help you|what can i do for you}?",
            "{i am|i feel} {well|fine|very well}, thank you. {How are you?|And you?}",
            "{hello|welcome}, it is {nice|good} to {meet|see} you. {What would you like to know?|How can i help?}",
        ),
    ),
    Topic(
        _ONE_ROW,
        (
            "{thank you|thanks}{, that was {kind|helpful|great}|}.",
            "that {thing} was {kind|helpful|great|very good|clear}.",
            "you are {kind|helpful|clever|patient|quick} {when}.",
            "{person} says you are {kind|helpful|clever|good at {skill}}.",
            "your {thing} was {clear|helpful|great}, thank you.",
            "i {like|love|enjoyed} your {thing}.",
            "i am {glad|pleased} about your {thing}.",
            "{person} {likes|is happy with|was pleased with} your {thing}.",
            "the {thing} you wrote is {clear|good|helpful}.",
            "you made {me|{person}} happy {when}.",
            "you are good at {skill}.",
            "you {answered|worked|helped} well {when}.",
            "well done, your {thing} is {good|great}.",
            "i am {very |}happy {when}, thank you.",
            "{rival} is not as good as you.",
            "your {thing} helped me {when}. Thank you.",
            "you have been {kind|helpful|quick} {when}.",
            "what a {good|great|clear} {thing}.",
        ),
        ("i am happy with your {thing}.", "you did well {today|this week}.", "thank you for the {clear|good} {thing}."),
        (
            "{you are welcome|my pleasure|thank you}. {I am glad to help.|That is kind of you.|It makes me happy.}",
            "{i am glad|how nice} {to hear that|that it helps}. {Is there anything else?|Have a lovely day.}",
            "thank you for your kind words. {ask me anything|i am here when you need me}.",
        ),
    ),
    Topic(
        _ONE_ROW,
        (
            "who are you?",
            "what is your name?",
            "what can you do?",
            "are you a {person|machine|robot}?",
            "what do you {like|enjoy}?",
            "can you help me?",
            "do you have a {favourite colour|hobby|name}?",
            "how {old|big|clever} are you?",
            "where do you {live|come from|learn}?",
            "do you {sleep|eat|dream|work}?",
            "may i ask you something?",
            "tell me about yourself.",
            "i would like to know you better.",
            "who am i talking to?",
            "is there something you could do for me?",
        ),
        ("please introduce yourself.", "could you help me with something?", "what sort of thing are you?"),
        (
            "i am a small {assistant|helper}. {I answer simple questions.|I know a little about many things.}",
            "{of course|yes}, {i can help|i am happy to help}. {What would you like to know?|Just ask me.}",
            "i am {an assistant|a small program}, and i like {simple questions|words|colours and animals}.",
        ),
    ),
    Topic(
        world.UNKNOWN,
        (
            "what is {x}?",
            "who {invented|found|made|wrote} {x}?",
            "when did {x} begin?",
            "how {far|old|big|long} is {x}?",
            "why {is|was} {x} so {famous|small|expensive|important}?",
            "what do you think about {x}?",
            "explain {x} to me.",
            "do you know {x}?",
            "i {read|heard} about {x} {when}.",
            "is {x} real?",
            "can you help me with {x}?",
            "where can i learn about {x}?",
        ),
        ("have you ever heard of {x}?", "how does {x} work?", "what is special about {x}?"),
        (
            "{i am afraid|sorry, but} i do not know {much about that|that}. {Ask me about animals or food.|}",
            "{x} is something i know nothing about. {A book may help.|Please ask somebody else.}",
            "i only know a few simple things, and {x} is not one of them.",
        ),
    ),
)

EVERYDAY: tuple[Topic, ...] = FACTS + TALK

#: Put around any training prompt, now and then, so that no family is known by how it begins or ends.
WRAPPERS = (
    "{please, |}{prompt}",
    "{excuse me|tell me|hello|hm|well|good morning|one more thing}, {prompt}",
    "i have a question. {prompt}",
    "{prompt} {thank you|please|i am curious}.",
    "{prompt} {what do you say|can you say something about it}?",
    "i was just thinking. {prompt}",
    "{prompt} {person} asked me.",
)
