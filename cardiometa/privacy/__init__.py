"""Disclosure control: suppression of small counts, the ledger of site summaries, withdrawal."""
