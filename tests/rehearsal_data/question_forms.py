"""What the questions of each benchmark look like: one form per category or question type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Names as people write them: with accents, other scripts and signs.
THINGS = (
    "armchair",
    "bookshelf",
    "café mug",
    "ceiling lamp",
    "coffee table",
    "desk",
    "fridge",
    "houseplant 🌱",
    "Küchenschrank",
    "mirror",
    "nightstand (床头柜)",
    "pillow",
    "piñata",
    "radiator",
    "sofá",
    "stove",
    "trash bin",
    "TV",
    "wardrobe",
    "window",
)

_YES_NO = ("Yes", "No")
_SIDES = ("left", "right")
_FOUR_SIDES = ("left", "right", "front", "back")
_CORNERS = ("front-left", "front-right", "back-left", "back-right")
_THINGS = ("{a}", "{b}", "{c}", "{d}")
_TWO = ("the {a}", "the {b}")
_POINTS = ("Point A", "Point B", "Point C", "Point D")
_COUNTS = ("1", "2", "3", "4")
_IMAGES = ("the first image", "the second image", "the third image", "the fourth image")
_TURNS = ("Turn Left", "Turn Right", "Turn Back")


@dataclass(frozen=True)
class QuestionForm:
    """One kind of question.

    ``{a}`` to ``{d}`` in text and options are replaced by names of things.

    Attributes:
        kind: The category or question type.
        text: The question.
        options: The options; without any, the answer is ``number`` or ``moves``.
        pictures: How many pictures the question has.
        number: Lowest and highest answer, and its number of decimals.
        moves: For SPAR; the name, lowest and highest value and decimals of each movement.
        mirror: The answers that change when the picture is mirrored, and what they become.
        group: The task above ``kind`` (OmniSpatial, MMSI-Video), the dataset that the question
            comes from (SITE), or the first part of its id (MindCube).
    """

    kind: str
    text: str
    options: tuple[str, ...] = ()
    pictures: int = 1
    number: tuple[float, float, int] = (1, 4, 1)
    moves: tuple[tuple[str, float, float, int], ...] = ()
    mirror: Mapping[str, str] = field(default_factory=dict)
    group: str = ""


_STANDING = "Suppose I stand next to the {a} and look towards the {b}: is the {c} "

VSI = (
    QuestionForm("object_counting", "How many {a}(s) can be found in this room?", number=(2, 6, 0)),
    QuestionForm(
        "object_abs_distance",
        "What is the distance between the {a} and the {b} (in meters), "
        "taken from their closest points?",
        number=(0.8, 3.5, 1),
    ),
    QuestionForm(
        "object_size_estimation",
        "What is the length of the {a}'s longest side (length, width or height), "
        "measured in centimeters?",
        number=(40, 130, 0),
    ),
    QuestionForm(
        "room_size_estimation",
        "What is the size of this room (in square meters)? Where several rooms are seen, "
        "give the size of all of them together.",
        number=(12, 35, 1),
    ),
    QuestionForm(
        "object_rel_distance",
        "Taken from their closest points, which of these objects ({a}, {b}, {c}, {d}) "
        "is the closest to the door?",
        _THINGS,
    ),
    QuestionForm("object_rel_direction_easy", _STANDING + "on my left or on my right?", _SIDES),
    QuestionForm(
        "object_rel_direction_medium",
        _STANDING + "to my left, right, or back? It is to my back if I have to turn by "
        "135 degrees or more to face it.",
        ("left", "right", "back"),
    ),
    QuestionForm(
        "object_rel_direction_hard",
        _STANDING + "to my front-left, front-right, back-left, or back-right? The directions "
        "are the quarters of a plane whose origin is where I stand and whose y-axis "
        "is where I look.",
        _CORNERS,
    ),
    QuestionForm(
        "route_planning",
        "You are a robot that starts at the {a} and faces the {b}. You want to reach the {c}. "
        "Fill in the missing action: 1. Go forward until the {b}. 2. [please fill in] "
        "3. Go forward until the {c}.",
        _TURNS,
    ),
    QuestionForm(
        "obj_appearance_order",
        "In which order do these things appear for the first time in the video: "
        "{a}, {b}, {c}, {d}?",
        ("{a}, {b}, {c}, {d}", "{b}, {a}, {d}, {c}", "{d}, {c}, {b}, {a}", "{c}, {d}, {a}, {b}"),
    ),
)

_DRIVE = "The two images were taken one after the other by somebody who walks through the room. "

MMSI = (
    QuestionForm(
        "Pos-Cam-Cam",
        _DRIVE + "Seen from the first camera, where was the second image taken?",
        _CORNERS,
        2,
    ),
    QuestionForm(
        "Pos-Obj-Obj",
        "The {a} stands at the north wall. In which direction of the {a} is the {b}?",
        ("North", "South", "East", "West"),
        2,
    ),
    QuestionForm(
        "Pos-Reg-Reg",
        "If the corner with the {a} is north of the corner with the {b}, "
        "where is the kitchen area relative to the sleeping area?",
        ("Northeast", "Southeast", "Northwest", "Southwest"),
        3,
    ),
    QuestionForm(
        "Pos-Cam-Obj",
        "When you took the second image, where was the {a} relative to you?",
        _FOUR_SIDES,
        2,
    ),
    QuestionForm("Pos-Obj-Reg", "Relative to the dining area, where is the {a}?", _FOUR_SIDES, 2),
    QuestionForm(
        "Pos-Cam-Reg",
        "When you took the first image, where was the area with the {a} relative to you?",
        _FOUR_SIDES,
        2,
    ),
    QuestionForm(
        "Attr-Meas",
        "Which of these things has the longest edge?",
        ("The {a}", "The {b}", "The {c}", "The {d}"),
        2,
    ),
    QuestionForm(
        "Attr-Appr",
        "Which shape does the top of the {a} have when it is seen from above?",
        ("A circle", "A square", "An L-shape", "A triangle"),
        3,
    ),
    QuestionForm(
        "Motion-Cam",
        _DRIVE + "How did the camera turn from the first image to the second?",
        ("Left", "Right", "Upwards", "Downwards"),
        2,
    ),
    QuestionForm(
        "Motion-Obj",
        "The camera stands still. How did the {a} move between the images?",
        (
            "Left while moving away",
            "Right while coming closer",
            "Left while coming closer",
            "Right while moving away",
        ),
        2,
    ),
    QuestionForm(
        "MSR",
        _DRIVE + "First walk to the {a}, then turn towards the {b} and go on to the {c}: "
        "on which side is the {d} now?",
        _FOUR_SIDES,
        3,
    ),
)

_FOUR_VIEWS = (
    "These four images (image 1, 2, 3, and 4) show the {a} "
    "from the front, the left, the back and the right. "
)

MINDCUBE = (
    QuestionForm(
        "among",
        _FOUR_VIEWS + "From where image 1 was taken, what is to the right of the {a}?",
        ("{b}", "{c}", "{d}", "nothing"),
        4,
        group="among",
    ),
    QuestionForm(
        "around",
        "The {a} and the {b} are seen from two places (image 1 and 2). "
        "Standing where image 1 was taken, I turn 90 degrees to the left. Where is the {b}?",
        ("In front of me", "Behind me", "To my left"),
        2,
        group="around",
    ),
    QuestionForm(
        "rotation",
        "I turn on the spot: image 1, 2 and 3 are the views in the order in which I saw them. "
        "What is behind me in image 2?",
        ("{a}", "{b}", "{c}"),
        3,
        group="rotation",
    ),
    QuestionForm(
        "around",
        "Image 1 and image 2 show the {a} from opposite sides. "
        "If I walk forward from image 1, do I get closer to the {c}?",
        _YES_NO,
        2,
        group="aroundnew",
    ),
)

VIEWSPATIAL = (
    QuestionForm(
        "Camera perspective - Relative Direction",
        "From the camera's point of view, where is the {a} in relation to the {b}?",
        ("left", "front-right", "back-right", "front"),
    ),
    QuestionForm(
        "Camera perspective - Object View Orientation",
        "From the camera's point of view, in which direction does the man look?",
        ("left", "right", "front", "back-left"),
    ),
    QuestionForm(
        "Person perspective - Object View Orientation",
        "From the woman's point of view, in which direction does the child look?",
        ("front-left", "right", "back", "front-right"),
    ),
    QuestionForm(
        "Person perspective - Relative Direction",
        "From the point of view of the person in the picture, where is the {a}?",
        ("left", "right", "back-right", "front"),
    ),
    QuestionForm(
        "Person perspective - Scene Simulation Relative Direction",
        "Imagine you stand next to the {a} and look at the {b}. Where is the {c} from there?",
        ("front-left", "back", "right", "back-right"),
        2,
    ),
)

_SITE = {
    "counting": "counting & existence",
    "position": "object localization & positioning",
    "3d": "3d information understanding",
    "views": "multi-view & cross-image reasoning",
    "relation": "spatial relationship reasoning",
    "movement": "movement prediction & navigation",
}

SITE_IMAGE = (
    QuestionForm(
        _SITE["counting"],
        "How many {a}s are there in the picture?",
        ("0", "1", "2", "3", "4", "5"),
        group="VStar",
    ),
    QuestionForm(
        _SITE["position"],
        "In which part of the picture is the {a}?",
        ("upper left", "upper right", "lower left", "lower right", "center"),
        group="MME-RealWorld",
    ),
    QuestionForm(
        _SITE["3d"], "Which of these is the farthest from the camera?", _THINGS, group="3DSRBench"
    ),
    QuestionForm(
        _SITE["views"],
        "Is <image> taken from the left or from the right of where <image> was taken?",
        _SIDES,
        2,
        group="BLINK",
    ),
    QuestionForm(
        _SITE["relation"],
        "Where is the {a} relative to the {b}?",
        ("above", "below", "beside"),
        group="Visual Genome",
    ),
    QuestionForm(
        _SITE["movement"],
        "After <image> a step forward is made. What is seen then?",
        ("<image>", "<image>"),
        3,
        group="MuirBench",
    ),
    QuestionForm(_SITE["counting"], "Is there a {a} in the picture?", _YES_NO, group="MMBench"),
    QuestionForm(
        _SITE["position"],
        "What stands between the {a} and the {b}?",
        ("{c}", "{d}", "nothing"),
        group="SPEC",
    ),
    QuestionForm(
        _SITE["3d"], "Which marked point is nearest to the camera?", _POINTS, group="BLINK"
    ),
    QuestionForm(
        _SITE["views"],
        "Which of the pictures shows the same room as the first one?",
        ("the second picture", "the third picture"),
        3,
        group="MuirBench",
    ),
    QuestionForm(
        _SITE["relation"],
        "From the viewer's side, is the {a} left or right of the {b}?",
        _SIDES,
        group="VSR",
    ),
    QuestionForm(
        _SITE["movement"],
        "A walker wants to reach the {a}. Where should the next step lead?",
        _FOUR_SIDES,
        group="VisualPuzzles",
    ),
)

SITE_VIDEO = (
    QuestionForm(
        _SITE["counting"],
        "How many different {a}s are seen during the walk?",
        ("1", "2", "3", "4", "5"),
        group="VSI-Bench",
    ),
    QuestionForm(
        _SITE["position"],
        "Where does the {a} stand at the end of the video?",
        _FOUR_SIDES,
        group="MVBench",
    ),
    QuestionForm(_SITE["3d"], "Which of these things is the largest?", _THINGS, group="VSI-Bench"),
    QuestionForm(
        _SITE["views"],
        "Which view belongs to the same moment as the one at the end?",
        _IMAGES[:3],
        group="ego_exo4d",
    ),
    QuestionForm(
        _SITE["relation"], "Does the {a} stand left or right of the {b}?", _SIDES, group="MLVU"
    ),
    QuestionForm(
        _SITE["movement"],
        "In which direction does the camera move?",
        ("up", "down", "left", "right", "forward", "backward"),
        group="MVBench",
    ),
)

BLINK = (
    QuestionForm(
        "Art_Style",
        "The first image is the reference. Which of the other two images has the same art style?",
        ("the second image", "the third image"),
        3,
    ),
    QuestionForm("Counting", "How many {a}s are in the image?", ("0", "1", "3", "2")),
    QuestionForm(
        "Forensic_Detection",
        "Only one of these four images is a real photograph. Which one is it?",
        _IMAGES,
        4,
    ),
    QuestionForm(
        "Functional_Correspondence",
        "A point on the {a} in the first image is marked REF. Which point in the second image "
        "has the same use?",
        _POINTS,
        2,
    ),
    QuestionForm(
        "IQ_Test",
        "Which picture continues the series?",
        ("picture A", "picture B", "picture C", "picture D"),
    ),
    QuestionForm(
        "Jigsaw",
        "The lower right corner of the first image is missing. Which image fits there?",
        ("the second image", "the third image"),
        3,
    ),
    QuestionForm(
        "Multi-view_Reasoning",
        "The images are frames of a video around the {a}. Does the camera move clockwise or "
        "counter-clockwise?",
        ("clockwise", "counter-clockwise"),
        2,
    ),
    QuestionForm("Object_Localization", "Which box shows where the {a} is?", ("Box A", "Box B")),
    QuestionForm(
        "Relative_Depth",
        "Two points are marked in the image. Which one is closer to the camera?",
        ("A is closer", "B is closer"),
    ),
    QuestionForm(
        "Relative_Reflectance",
        "Which of the two marked points has the darker surface?",
        ("A is darker", "B is darker", "About the same"),
    ),
    QuestionForm(
        "Semantic_Correspondence",
        "A point on the {a} in the first image is marked REF. Which point in the second image "
        "is on the same part?",
        _POINTS,
        2,
    ),
    QuestionForm("Spatial_Relation", "Is the {a} to the left of the {b}?", ("yes", "no")),
    QuestionForm(
        "Visual_Correspondence",
        "Which point in the second image is the point marked REF in the first image?",
        _POINTS,
        2,
    ),
    QuestionForm(
        "Visual_Similarity",
        "Which image is more like the first one?",
        ("the second image", "the third image"),
        3,
    ),
)

_MIRRORED_SIDES = {"left": "right", "right": "left"}
_MIRRORED_YES = {"Yes": "No", "No": "Yes"}

THREE_D = (
    QuestionForm(
        "height_higher", "Which object is higher up in the 3D scene, the {a} or the {b}?", _TWO
    ),
    QuestionForm("location_above", "In the 3D scene, is the {a} right above the {b}?", _YES_NO),
    QuestionForm(
        "location_closer_to_camera",
        "Which object is closer to the camera, the {a} or the {b}?",
        _TWO,
    ),
    QuestionForm(
        "location_next_to",
        "Are the {a} and the {b} next to each other or far apart?",
        ("next to each other", "far apart"),
    ),
    QuestionForm(
        "orientation_in_front_of",
        "Seen from the {a}, is the {b} in front of it or behind it?",
        ("in front of", "behind"),
    ),
    QuestionForm(
        "orientation_on_the_left",
        "Seen from the {a}, is the {b} on its left side?",
        _YES_NO,
        mirror=_MIRRORED_YES,
    ),
    QuestionForm(
        "orientation_viewpoint",
        "Which side of the {a} faces the camera?",
        _FOUR_SIDES,
        mirror=_MIRRORED_SIDES,
    ),
    QuestionForm(
        "multi_object_closer_to", "Which object is closer to the {c}, the {a} or the {b}?", _TWO
    ),
    QuestionForm(
        "multi_object_facing", "Does the {a} face the {b} or the {c}?", ("the {b}", "the {c}")
    ),
    QuestionForm(
        "multi_object_parallel",
        "Are the {a} and the {b} parallel to each other or at a right angle?",
        ("parallel", "perpendicular"),
    ),
    QuestionForm(
        "multi_object_same_direction",
        "Do the {a} and the {b} face the same way or opposite ways?",
        ("same direction", "opposite directions"),
    ),
    QuestionForm(
        "multi_object_viewpoint_towards_object",
        "Which side of the {a} faces the {b}?",
        _FOUR_SIDES,
        mirror=_MIRRORED_SIDES,
    ),
)

EMBSPATIAL = tuple(
    QuestionForm(relation, text, options)
    for relation, text, options in (
        (
            "above",
            "How are the {a} and the {b} placed relative to each other in the image?",
            (
                "The {a} is above the {b}.",
                "The {a} is inside the {b}.",
                "The {a} is under the {b}.",
                "The {a} is left of the {b}.",
            ),
        ),
        (
            "under",
            "What is the relation of the {a} to the {c} in the image?",
            ("above", "under", "inside", "right of"),
        ),
        (
            "left",
            "Where is the {a} relative to the {b} in the image?",
            ("to the left", "to the right", "on top of it", "below it"),
        ),
        ("right", "Which of these is to the right of the door in the image?", _THINGS),
        ("close", "Which of these objects is the closest in the image?", _THINGS),
        ("far", "Which of these objects is the farthest away in the image?", _THINGS),
    )
)

# ``pictures`` counts reference images beside the video.
MMSI_VIDEO = tuple(
    QuestionForm(kind, text, options, pictures, group=group)
    for group, kind, text, options, pictures in (
        (
            "Spatial Construction",
            "Instance/Scene Attribute",
            "Which shape does the floor have?",
            ("a square", "an L", "a circle", "a triangle"),
            0,
        ),
        (
            "Spatial Construction",
            "Instance-Instance Spatial Relationship",
            "Where is the {a} relative to the {b}?",
            _FOUR_SIDES,
            0,
        ),
        (
            "Spatial Construction",
            "Instance-Scene Spatial Relationship",
            "In which corner of the room is the {a}?",
            _CORNERS,
            0,
        ),
        (
            "Spatial Construction",
            "Scene-Scene Spatial Relationship",
            "Where is the kitchen relative to the hall?",
            _FOUR_SIDES,
            0,
        ),
        (
            "Spatial Construction",
            "Camera-Instance Spatial Relationship",
            "At the end of the video, where is the {a} relative to the camera?",
            _CORNERS,
            0,
        ),
        (
            "Spatial Construction",
            "Camera-Scene Spatial Relationship",
            "The reference image <image> was taken in the same rooms. From where?",
            ("the hall", "the kitchen", "the bathroom", "the balcony"),
            1,
        ),
        (
            "Motion Understanding",
            "Camera Motion",
            "How does the camera move in the video?",
            ("up", "down", "left", "right", "forward", "backward"),
            0,
        ),
        (
            "Motion Understanding",
            "Instance Motion",
            "How does the {a} move in the video?",
            _FOUR_SIDES,
            0,
        ),
        (
            "Motion Understanding",
            "Interactive Motion",
            "Which thing does the hand move first?",
            _THINGS,
            0,
        ),
        (
            "Cross-Video",
            "Memoery Update",
            "What changed in the room between the videos?",
            ("the {a} was moved", "the {b} was taken away", "the {c} was added", "nothing"),
            0,
        ),
        (
            "Cross-Video",
            "Multi-View Integration",
            "Which thing is seen in every video?",
            _THINGS,
            0,
        ),
        (
            "Planning",
            "Planning",
            "To get from <image> to <image>, which way is the shortest?",
            (
                "left, then forward",
                "right, then forward",
                "forward, then left",
                "forward, then right",
            ),
            2,
        ),
        (
            "Prediction",
            "Prediction",
            "What will be seen if the camera goes on like this?",
            _THINGS,
            0,
        ),
    )
)

# Which of MMSI-Video's four subsets a question belongs to; most belong to none or one.
MMSI_VIDEO_SUBSETS: tuple[Mapping[str, str], ...] = (
    {"Easy2hard": "level_1", "Indoor_Scene_Perception": "Static Scene"},
    {"Easy2hard": "level_2"},
    {"Grounding": "temporal", "Robot": "Navigation"},
    {"Indoor_Scene_Perception": "Dynamic Scene"},
    {"Robot": "Manipulation"},
    {},
)

OMNISPATIAL = tuple(
    QuestionForm(kind, text, options, group=group)
    for group, kind, text, options in (
        (
            "Dynamic_Reasoning",
            "Manipulation",
            "Which way must the handle of the {a} be turned to open it?",
            ("clockwise", "counter-clockwise", "it cannot be turned"),
        ),
        (
            "Dynamic_Reasoning",
            "Motion_Analysis",
            "In which direction does the person in the middle run?",
            _FOUR_SIDES,
        ),
        (
            "Spatial_Interaction",
            "Traffic_Analysis",
            "If the car keeps its lane, will it hit the bicycle?",
            _YES_NO,
        ),
        (
            "Spatial_Interaction",
            "Localization",
            "Where is the {a} in the picture?",
            ("top left", "top right", "bottom left", "bottom right"),
        ),
        (
            "Spatial_Interaction",
            "Geospatial_Strategy",
            "Which way leads from the start to the goal on the map?",
            ("north, then east", "east, then north", "south, then west", "west, then south"),
        ),
        (
            "Complex_Logic",
            "Pattern_Recognition",
            "Which piece completes the pattern?",
            ("piece 1", "piece 2", "piece 3", "piece 4"),
        ),
        (
            "Complex_Logic",
            "Geometric_Reasoning",
            "Which solid does the net fold into?",
            ("a cube", "a pyramid", "a prism", "a cylinder"),
        ),
        (
            "Perspective_Taking",
            "Egocentric",
            "Which thing is on the right side of the picture?",
            _THINGS,
        ),
        (
            "Perspective_Taking",
            "Allocentric",
            "Seen from the person who sits on the {a}, where is the {b}?",
            _FOUR_SIDES,
        ),
        (
            "Perspective_Taking",
            "Hypothetical",
            "If you stood behind the {a}, which thing would you see first?",
            _THINGS,
        ),
    )
)

_CENTRES = " Judge by the 3D centre points of these objects."
_SAID_DEPTH = "The {a} (red box) lies at a depth of 2.0 meters. "
_MV = "The images show one room from several places. "
_POSITION = (
    "Where is the {a} (red box) relative to the {b} (blue box), "
    "seen by the observer of the first image?",
    ("Left; Above; Far", "Left; Below; Near", "Right; Above; Near", "Right; Below; Far"),
)
_BOXES = (
    "(120, 85, 310, 402)",
    "(433, 210, 598, 377)",
    "(610, 95, 742, 280)",
    "(25, 505, 188, 760)",
)
_MOVED = ("(352, 418), 1.4", "(701, 233), 2.1", "(128, 640), 0.9", "(544, 512), 3.0")

SPAR = (
    QuestionForm(
        "depth_prediction_oc", "What is the depth of the {a} (red box) in meters?" + _CENTRES
    ),
    QuestionForm(
        "depth_prediction_oo",
        _SAID_DEPTH + "What is the depth of the {b} (blue box) in meters?" + _CENTRES,
    ),
    QuestionForm(
        "distance_prediction_oc",
        "What is the distance between the observer and the {a} (red box) in meters?" + _CENTRES,
    ),
    QuestionForm(
        "distance_prediction_oo",
        "What is the distance between the {a} (red box) and the {b} (blue box) in meters?"
        + _CENTRES,
    ),
    QuestionForm(
        "depth_prediction_oc_mv",
        _MV + "What is the depth of the {a} (red box) in meters, in the first image?" + _CENTRES,
        pictures=3,
    ),
    QuestionForm(
        "depth_prediction_oo_mv",
        _MV + _SAID_DEPTH + "What is the depth of the {b} (blue box) in meters?" + _CENTRES,
        pictures=3,
    ),
    QuestionForm(
        "distance_prediction_oc_mv",
        _MV + "What is the distance between the observer of the first image and the {a} (red box) "
        "in meters?" + _CENTRES,
        pictures=3,
    ),
    QuestionForm(
        "distance_prediction_oo_mv",
        _MV
        + "What is the distance between the {a} (red box) and the {b} (blue box) in meters?"
        + _CENTRES,
        pictures=3,
    ),
    QuestionForm(
        "position_matching",
        _MV + "The {a} has the red box in the first image. Which box has it in the second image?",
        _BOXES,
        2,
    ),
    QuestionForm(
        "camera_motion_infer",
        _MV + "Where in the first image (position and depth) was the camera of the second image?",
        _MOVED,
        2,
    ),
    QuestionForm(
        "view_change_infer",
        _MV + "Describe how the camera moved from the first image to the second, "
        "in meters and degrees, as "
        "move_right:<number>,move_up:<number>,move_forward:<number>,"
        "rotate_right:<number>,rotate_up:<number> "
        "(or move_left, move_down, move_backward, rotate_left, rotate_down).",
        pictures=2,
        moves=(
            ("move_right", 0.5, 2, 1),
            ("move_down", 0.2, 1, 1),
            ("move_forward", 0.5, 2, 1),
            ("rotate_right", 10, 45, 0),
            ("rotate_up", 5, 20, 0),
        ),
    ),
    QuestionForm(
        "distance_infer_center_oo",
        "Which of these objects has its centre nearest to that of the {a} (red box)?",
        ("{b}", "{c}", "{d}"),
    ),
    QuestionForm(
        "distance_infer_center_oo_mv",
        _MV + "Which of these objects has its centre farthest from that of the {a} (red box)?",
        ("{b}", "{c}", "{d}"),
        3,
    ),
    QuestionForm("obj_spatial_relation_oo", *_POSITION),
    QuestionForm(
        "obj_spatial_relation_oc_mv",
        _MV + "Seen by the observer of the second image, where is the {a} (red box)?",
        _POSITION[1],
        2,
    ),
    QuestionForm("obj_spatial_relation_oo_mv", _MV + _POSITION[0], _POSITION[1], 3),
    QuestionForm(
        "spatial_imagination_oc",
        "If the observer stood at the {a} (red box) and looked at the {b} (blue box), "
        "where would the {c} be?",
        _POSITION[1],
    ),
    QuestionForm(
        "spatial_imagination_oo",
        "If the observer stood at the {a} (red box), where would the {b} be relative to the {c}?",
        _POSITION[1],
    ),
    QuestionForm(
        "spatial_imagination_oc_mv",
        _MV
        + "If the observer moved to the {a} (red box) and looked at the {b}, where would the {c} "
        "be?",
        _POSITION[1],
        3,
    ),
    QuestionForm(
        "spatial_imagination_oo_mv",
        _MV
        + "If the observer moved to the {a} (red box), where would the {b} be relative to the {c}?",
        _POSITION[1],
        3,
    ),
)
