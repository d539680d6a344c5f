"""Names of resources, and the rules they obey (https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names)."""

import re

from laptop.errors import invalid

DELETED_TOPIC = "_deleted-topic_"
_ID = re.compile(r"[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}")


def check_new(name: str, kind: str) -> None:
    """Refuse a name that no ``kind`` (``topics``, ``subscriptions``) may have.

    Raises:
        ServiceError: INVALID_ARGUMENT.
    """
    parts = name.split("/")
    well_formed = len(parts) == 4 and parts[0] == "projects" and bool(parts[1]) and parts[2] == kind
    if not well_formed or not _ID.fullmatch(parts[3]) or parts[3].lower().startswith("goog"):
        raise invalid(
            f"Invalid resource name given (name={name}). Expected projects/<project>/{kind}/<id> with an id of 3 to "
            "255 letters, digits and -_.~+% that starts with a letter and not with goog"
        )
