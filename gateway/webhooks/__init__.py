"""Telling customers of ends: what is owed, where it goes, how it is signed, who delivers it."""
