/* rpc/key_words.c - 256 words for fingerprints: common, of at most eight letters, no two with the
 * same four first letters or a single letter's difference.  The order is part of the fingerprint.
 */
#include "rpc/key_priv.h"

const char *const sh_key_word_list[256] = {
    "acid",     "acorn",   "actor",   "adult",   "alarm",   "album",   "amber",    "anchor",
    "angle",    "apple",   "april",   "apron",   "arch",    "arrow",   "atlas",    "attic",
    "autumn",   "axle",    "bacon",   "badge",   "bagel",   "baker",   "bamboo",   "banjo",
    "barn",     "basil",   "basket",  "beach",   "beard",   "beaver",  "bell",     "berry",
    "birch",    "bishop",  "blanket", "bolt",    "bonus",   "book",    "border",   "bottle",
    "bowl",     "bread",   "bridge",  "bronze",  "brush",   "bubble",  "bucket",   "bugle",
    "butter",   "cabin",   "cactus",  "camel",   "candle",  "canoe",   "canvas",   "carbon",
    "carpet",   "castle",  "cedar",   "cello",   "chalk",   "cherry",  "chess",    "circus",
    "citrus",   "cliff",   "clover",  "cobra",   "cocoa",   "coffee",  "comet",    "copper",
    "coral",    "cotton",  "cousin",  "crab",    "crystal", "cube",    "curtain",  "daisy",
    "dancer",   "desert",  "diamond", "dinner",  "doctor",  "dolphin", "donkey",   "dragon",
    "drum",     "duck",    "eagle",   "earth",   "echo",    "elbow",   "elephant", "engine",
    "envelope", "falcon",  "farmer",  "feather", "fern",    "fiddle",  "field",    "finger",
    "flame",    "flute",   "forest",  "fossil",  "fox",     "frost",   "galaxy",   "garden",
    "garlic",   "ghost",   "giant",   "glacier", "globe",   "goat",    "guitar",   "hammer",
    "harbor",   "hazel",   "helmet",  "herring", "hill",    "hockey",  "honey",    "hotel",
    "igloo",    "indigo",  "insect",  "iron",    "island",  "ivory",   "jacket",   "jaguar",
    "jelly",    "jewel",   "jungle",  "kayak",   "kettle",  "kiosk",   "kitten",   "koala",
    "ladder",   "lagoon",  "lamp",    "lantern", "lemon",   "leopard", "lettuce",  "lilac",
    "lizard",   "lobster", "lunch",   "magnet",  "mango",   "maple",   "marble",   "market",
    "meadow",   "melon",   "mermaid", "mirror",  "moss",    "museum",  "mustard",  "napkin",
    "nectar",   "needle",  "nickel",  "nomad",   "noodle",  "nutmeg",  "oasis",    "ocean",
    "olive",    "onion",   "opera",   "orange",  "orchid",  "otter",   "oxygen",   "oyster",
    "paddle",   "palace",  "panda",   "paper",   "parrot",  "pebble",  "pencil",   "pepper",
    "piano",    "pigeon",  "pilot",   "pirate",  "planet",  "plum",    "pocket",   "poppy",
    "potato",   "prism",   "pumpkin", "puzzle",  "quartz",  "quilt",   "rabbit",   "radio",
    "raven",    "ribbon",  "river",   "robin",   "rubber",  "salmon",  "sandal",   "scarf",
    "school",   "shadow",  "silver",  "sketch",  "smoke",   "snail",   "sofa",     "spider",
    "spoon",    "squid",   "stone",   "sugar",   "summer",  "swan",    "table",    "tailor",
    "tiger",    "timber",  "tomato",  "torch",   "tractor", "trumpet", "tulip",    "turtle",
    "umbrella", "uncle",   "valley",  "velvet",  "violin",  "volcano", "waffle",   "walnut",
    "whale",    "wheel",   "willow",  "window",  "winter",  "yellow",  "yogurt",   "zebra"};
