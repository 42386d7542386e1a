"""What moves under the learner's hand? The Explorer: its controls, charts and trainings."""
