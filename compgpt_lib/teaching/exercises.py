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

EXERCISES: dict[str, Exercise] = (
    chapter01.EXERCISES
    | chapter02.EXERCISES
    | chapter03.EXERCISES
    | chapter04.EXERCISES
    | chapter05.EXERCISES
    | chapter06.EXERCISES
    | chapter07.EXERCISES
    | chapter08.EXERCISES
    | chapter09.EXERCISES
    | chapter10.EXERCISES
    | chapter11.EXERCISES
    | chapter12.EXERCISES
)
