"""What moves under the learner's hand?"""
