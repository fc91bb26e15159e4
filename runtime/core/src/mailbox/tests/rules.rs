//! Rules that deserve a sentence of their own.
