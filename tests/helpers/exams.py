"""A small exam of three questions and a text, written by hand."""

from caplab.questions.exam import Exam, Question, Text

FRANCE = Question("capitals", "The capital of France is", ("Paris", "Rome"), 0)
ITALY = Question("capitals", "The capital of Italy is", ("Paris", "Rome"), 1)
SUM = Question("arithmetic", "2+2=", ("4", "5", "22"), 0)
STORY = Text("language", "Once there was a dog.")
SMALL = Exam((FRANCE, ITALY, SUM), (STORY,), "small")
