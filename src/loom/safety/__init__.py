"""Pure checks: permissions, vetoes, receipts, schemas, paths, URLs. No I/O beyond what an argument carries."""
