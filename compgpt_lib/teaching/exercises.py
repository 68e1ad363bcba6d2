"""The exercises of the chapters, by name, each with the wrong answers that it knows."""

from compgpt_lib.teaching import (
    chapter01,
    chapter02,
    chapter03,
    chapter04,
    chapter05,
    chapter06,
    chapter07,
    chapter08,
    chapter09,
    chapter10,
    chapter11,
    chapter12,
)
from compgpt_lib.teaching.exercise import Exercise

CHAPTERS: dict[str, dict[str, Exercise]] = {
    "01": chapter01.EXERCISES,
    "02": chapter02.EXERCISES,
    "03": chapter03.EXERCISES,
    "04": chapter04.EXERCISES,
    "05": chapter05.EXERCISES,
    "06": chapter06.EXERCISES,
    "07": chapter07.EXERCISES,
    "08": chapter08.EXERCISES,
    "09": chapter09.EXERCISES,
    "10": chapter10.EXERCISES,
    "11": chapter11.EXERCISES,
    "12": chapter12.EXERCISES,
}
EXERCISES: dict[str, Exercise] = {
    key: exercise for chapter in CHAPTERS.values() for key, exercise in chapter.items()
}
