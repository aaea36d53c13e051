"""One upload with tuspy, as the JSON in the first argument says.

endpoint, file     where to, and what
append_bytes       the length of one PATCH
metadata           a dictionary, or nothing at all
checksum           whether each PATCH carries its sha1
storage            a file that remembers upload URLs; a stored upload is resumed
retries            how often a PATCH is tried again, with a HEAD before
Prints one JSON event a line: success or error.
"""
import json
import sys

from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.storage.filestorage import FileStorage


def main(task):
    client = TusClient(task["endpoint"])
    options = {"chunk_size": task["append_bytes"], "upload_checksum": task.get("checksum", False)}
    if task.get("metadata"):
        options["metadata"] = task["metadata"]
    if task.get("storage"):
        options |= {"store_url": True, "url_storage": FileStorage(task["storage"])}
    options |= {"retries": task.get("retries", 0), "retry_delay": 0}
    uploader = client.uploader(task["file"], **options)
    begun_at = uploader.offset
    uploader.upload()
    return {"event": "success", "url": uploader.url, "begun_at": begun_at}


if __name__ == "__main__":
    try:
        told = main(json.loads(sys.argv[1]))
    except TusCommunicationError as error:
        told = {"event": "error", "message": f"{error} {error.response_content}"}
    print(json.dumps(told), flush=True)
