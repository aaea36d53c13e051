"""One upload with aiotus, as the JSON in the first argument says.

endpoint, files    where to, and what; several files are sent as parts and concatenated
append_bytes       the length of one PATCH
metadata           a dictionary of text, null for a key without a value
Prints one JSON event a line: success (with the metadata that the server gives back) or error.
"""
import asyncio
import contextlib
import json
import logging
import sys

import aiotus


async def main(task):
    metadata = {
        key: None if value is None else value.encode() for key, value in task["metadata"].items()
    }
    config = aiotus.RetryConfiguration(retry_attempts=3, max_retry_period_seconds=1)
    options = {"metadata": metadata, "config": config, "chunksize": task["append_bytes"]}
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(path, "rb")) for path in task["files"]]
        if len(files) == 1:
            url = await aiotus.upload(task["endpoint"], files[0], **options)
        else:
            url = await aiotus.upload_multiple(task["endpoint"], files, **options)
    if url is None:
        return {"event": "error", "message": "aiotus gave up"}
    told = await aiotus.metadata(url, config=config)
    text = {key: None if value is None else value.decode() for key, value in told.items()}
    return {"event": "success", "url": str(url), "metadata": text}


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))), flush=True)
