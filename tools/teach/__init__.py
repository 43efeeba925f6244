"""`make teach`: a teacher's pack, derived from the chapters: nothing in it is written twice."""
