"""The demo's small world: tables of things and what is true of them."""

from demo.grammar import phrases, rows

ANIMALS = rows(
    "x colour home food habit",
    """
    fox; red; the forest; berries and mice; comes out at dusk
    rabbit; brown; a burrow in the field; grass and carrots; digs long tunnels
    owl; grey; an old tree; mice and beetles; flies without a sound
    horse; brown; a stable on the farm; hay and oats; sleeps standing up
    heron; grey; the river; small fish; stands still for hours
    frog; green; the pond; flies and worms; sings on warm nights
    sheep; pale; the green hills; grass; follows its friends
    squirrel; red; a hollow tree; acorns and seeds; hides food for the winter
    bear; brown; the mountains; honey and fish; sleeps all winter
    deer; brown; the quiet woods; leaves and grass; listens for every sound
    hedgehog; brown; the garden; worms and beetles; rolls into a ball
    crow; black; the tall trees; seeds and scraps; remembers faces
    goose; grey; the lake; grass and grain; flies south in autumn
    mouse; grey; a corner of the kitchen; bread and cheese; runs along the wall
    cat; grey; a warm house; fish; sleeps all afternoon
    turtle; green; the warm sea; sea grass; swims a very long way
    penguin; black; the cold south; fish; slides over the ice
    otter; brown; the stream; fish and crabs; floats on its back
    lizard; green; the dry stones; flies and ants; warms up in the sun
    swan; pale; the lake; water plants; builds a large nest
    bee; yellow; a hive; the juice of flowers; dances for its friends
    snail; grey; the wet garden; leaves; carries its house along
    camel; sandy; the desert; dry plants; walks for days without water
    whale; blue; the deep sea; tiny shrimps; sings under water
    """,
)
THINGS = rows(
    "x colour where",
    """
    grass; green; in every garden
    the sky; blue; above the roofs
    a lemon; yellow; in the kitchen
    snow; pale and bright; on the hills in winter
    coal; dark; in the cellar
    a strawberry; red; in the garden in June
    a carrot; orange; under the soil
    the sea; blue; beyond the dunes
    chocolate; brown; in a tin on the shelf
    a banana; yellow; in the fruit bowl
    a tomato; red; in the greenhouse
    an elephant; grey; by the river in Africa
    a leaf; green; on the tree
    an orange; orange; in the basket
    a cloud; grey; over the hills
    gold; yellow; in the old box
    a cherry; red; on the branch
    sand; yellow; on the beach
    a plum; purple; on the low tree
    a pumpkin; orange; on the farm
    a pea; green; in a pod
    honey; golden; in a jar
    """,
)
DISHES = rows(
    "x base time side",
    """
    vegetable soup; carrots, onions and water; thirty minutes; fresh bread
    rice; rice and two cups of water; fifteen minutes; beans or fish
    pancakes; flour, eggs and milk; ten minutes; honey
    an apple pie; apples, butter and flour; fifty minutes; cream
    bread; flour, water, salt and yeast; forty minutes; butter
    an omelette; eggs and a little butter; five minutes; a green salad
    tomato sauce; tomatoes, garlic and oil; twenty minutes; pasta
    porridge; oats and milk; eight minutes; berries
    potato salad; potatoes, herbs and oil; thirty minutes; cold fish
    fried fish; fish, flour and oil; ten minutes; lemon and potatoes
    lentil stew; lentils, carrots and stock; forty minutes; rice
    tea; water and tea leaves; four minutes; a biscuit
    a fruit salad; apples, pears and berries; ten minutes; yoghurt
    mushroom toast; mushrooms, butter and bread; twelve minutes; parsley
    baked beans; beans, tomatoes and onions; an hour; toast
    a cheese sandwich; bread, cheese and butter; five minutes; pickles
    noodles; noodles and hot stock; seven minutes; spring onions
    roast carrots; carrots, oil and honey; thirty minutes; rice
    """,
)
OBJECTS = rows(
    "x kind use",
    """
    hammer; tool; drive nails into wood
    kettle; pot; boil water
    lamp; light; see in the dark
    ladder; set of steps; reach high places
    umbrella; cover; stay dry in the rain
    compass; small instrument; find the north
    needle; thin tool; sew cloth
    saw; tool with teeth; cut wood
    map; drawing of the land; find the way
    pillow; soft bag; rest your head
    clock; machine; tell the time
    broom; brush with a long handle; sweep the floor
    telescope; instrument; look at the stars
    basket; woven box; carry fruit
    key; piece of metal; open a lock
    bridge; road over water; cross a river
    candle; stick of wax; light a room
    mirror; sheet of glass; see your face
    rope; thick string; tie things together
    spoon; small tool; eat soup
    bicycle; machine with two wheels; ride to town
    thermometer; instrument; measure heat
    dictionary; book of words; look up what words mean
    wallet; small case; keep coins and cards
    """,
)
PLACES = rows(
    "x do bring weather",
    """
    the seaside; swim and look for shells; a towel; windy and bright
    the mountains; walk and look at the view; strong shoes; cool and clear
    the library; read and borrow books; your card; warm and quiet
    the market; buy fruit and talk to people; a bag; noisy and warm
    the park; sit in the sun and feed the ducks; a blanket; mild
    the museum; look at old things; a ticket; cool inside
    the forest; pick mushrooms and listen to birds; a basket; damp and cool
    the lake; row a boat and fish; a warm coat; misty in the morning
    the old town; see the towers and the square; a map; sunny in summer
    the farm; meet the animals and taste the cheese; old boots; rainy in spring
    the island; sail around the bay; a hat; hot and dry
    the theatre; watch a play; a friend; warm inside
    the zoo; see the bears and the penguins; a camera; mild in spring
    the river; paddle and have a picnic; sandwiches; fresh and green
    the village; visit the church and the bakery; a little time; calm
    the harbour; watch the ships; a scarf; windy
    """,
)
OPPOSITES = rows(
    "x y",
    """
    hot; cold
    big; small
    early; late
    happy; sad
    full; empty
    open; closed
    loud; quiet
    hard; soft
    wet; dry
    light; heavy
    near; far
    high; low
    young; old
    strong; weak
    fast; slow
    rich; poor
    sweet; sour
    thick; thin
    deep; shallow
    rough; smooth
    tall; short
    wide; narrow
    """,
)
TASKS = rows(
    "x first then",
    """
    clean a window; wipe it with warm water; dry it with old paper
    plant a tree; dig a wide hole; water it every evening
    sharpen a knife; damp the stone; draw the blade along it slowly
    wash a wool jumper; use cold water and mild soap; dry it flat
    boil an egg; put it in hot water for six minutes; cool it under the tap
    paint a wall; cover the floor; paint from the top to the bottom
    fix a flat tyre; take the tube out; glue a patch on it
    make coffee; grind the beans; pour hot water over them
    light a fire; stack dry sticks; lay one large log on top
    grow tomatoes; sow the seeds in spring; give them sun and water
    fold a shirt; lay it flat; fold the sleeves to the back
    learn a language; learn ten words a day; speak with a friend
    polish shoes; brush the dust away; add a little wax
    pack a suitcase; put the heavy things first; roll the clothes
    sew on a button; thread a needle; pull it through four times
    water a plant; touch the soil; water it only when it is dry
    hang a picture; mark the place; drive in a small nail
    tie a knot; cross the ends; pull them tight
    remove a stain; put salt on it; wash it in cold water
    store apples; pick the good ones; keep them cool and dark
    """,
)
WEATHER = rows(
    "x wear plan",
    """
    rainy; a coat and boots; stay in and read
    sunny; a hat; sit in the park
    windy; a warm scarf; fly a kite
    snowy; thick gloves; build a snowman
    foggy; a bright coat; wait for the sun
    stormy; nothing thin; stay at home
    hot; light clothes; rest in the shade
    frosty; a thick scarf; make some tea
    cloudy; a jumper; go for a walk
    """,
)
JOBS = rows(
    "x does where",
    """
    baker; makes bread and cakes; a bakery
    farmer; grows corn and keeps animals; a farm
    teacher; helps children to learn; a school
    nurse; looks after people who are ill; a hospital
    gardener; looks after plants; a garden
    sailor; sails across the sea; a ship
    carpenter; makes tables and chairs; a workshop
    painter; paints pictures and walls; a bright room
    doctor; helps people to get well; a clinic
    tailor; makes and mends clothes; a small shop
    pilot; flies planes; the air
    librarian; looks after books; a library
    fisherman; catches fish; a small boat
    potter; makes bowls and cups; a workshop
    beekeeper; looks after bees; a meadow
    """,
)
COUNTS = rows(
    "x whole n",
    """
    days; a week; seven
    months; a year; twelve
    hours; a day; twenty four
    minutes; an hour; sixty
    seasons; a year; four
    wheels; a car; four
    legs; a spider; eight
    legs; a beetle; six
    sides; a triangle; three
    sides; a square; four
    letters; the alphabet; twenty six
    fingers; one hand; five
    wheels; a bicycle; two
    strings; a violin; four
    """,
)
PLANS = rows(
    "x tip",
    """
    learn to swim; start in shallow water
    bake a cake; weigh everything first
    visit my aunt; bring her some flowers
    run five miles; begin slowly and drink water
    read more; keep a book beside your bed
    save money; put a little aside each week
    sleep better; keep the room dark and cool
    grow herbs; begin with mint and parsley
    play the piano; play one short piece each morning
    travel by train; book the ticket early
    write letters; choose good paper
    camp by the lake; pack a dry blanket
    draw birds; look at their shapes first
    keep bees; ask a beekeeper for advice
    mend my coat; use strong thread
    """,
)
TROUBLES = rows(
    "x fault fix",
    """
    bicycle; slow; put some oil on the chain
    soup; boring; add salt and fresh herbs
    room; cold; close the window and light the fire
    phone; slow; turn it off and on again
    coat; too long; ask a tailor to shorten it
    clock; wrong; set it by the radio
    bread; dry; toast it and add butter
    tea; weak; leave the leaves in longer
    garden; too wet; add some sand to the soil
    door; noisy; put a little oil on the hinge
    shoes; dirty; brush them and add some wax
    lamp; weak; put in a new bulb
    knife; bad; sharpen it on a stone
    train; late; ask at the desk for the next one
    """,
)

# Subjects the model knows nothing about, and says so.
UNKNOWN = tuple(
    {"x": subject}
    for subject in phrases(
        "the capital of France, the price of gold, the theory of numbers, football, the last election, the speed of "
        "light, my bank account, electricity, the Roman empire, opera, the new film, chess, the moon landing, modern "
        "art, the computer, medicine, the law, the history of Spain, space travel, chemistry, the president, the "
        "internet, poetry, the stock market, tennis, the Greek alphabet, engines, fashion, philosophy, the longest word"
    )
)
