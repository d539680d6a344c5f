"""What the documents have done by hand is read from them."""

from pathlib import Path

import pytest

from rehearsal.documented import DEPLOYER, PLANNER, WHERE, DocumentError, address, done_by_hand, roles
from rehearsal.project import Project


def test_the_documents_give_the_deployer_and_the_planner_their_roles() -> None:
    """The deployer's may change the project's policy; the planner's may only look."""
    assert "roles/resourcemanager.projectIamAdmin" in roles(DEPLOYER)
    assert "roles/viewer" in roles(PLANNER)
    assert not set(roles(DEPLOYER)) & set(roles(PLANNER))


def test_loops_and_single_commands_are_read_in_text_and_in_comments(tmp_path: Path) -> None:
    """In the forms that an engineer can paste; another account's roles are not taken for its own."""
    document = tmp_path / "page.md"
    document.write_text(
        """
   for role in pubsub.admin \\
       run.admin; do
     gcloud projects add-iam-policy-binding PROJECT --role=roles/$role \\
       --member=serviceAccount:lunation-deployer@PROJECT.iam.gserviceaccount.com
   done
#   gcloud projects add-iam-policy-binding PROJECT --role=roles/logging.configWriter \\
#     --member=serviceAccount:lunation-deployer@PROJECT.iam.gserviceaccount.com
   for role in viewer; do gcloud projects add-iam-policy-binding PROJECT --role=roles/$role \\
     --member=serviceAccount:lunation-planner@PROJECT.iam.gserviceaccount.com; done
"""
    )
    assert roles(DEPLOYER, document) == ("roles/pubsub.admin", "roles/run.admin", "roles/logging.configWriter")
    assert roles(PLANNER, document) == ("roles/viewer",)


def test_a_document_that_gives_no_role_is_named(tmp_path: Path) -> None:
    """Its commands may have got a form that is not read."""
    document = tmp_path / "page.md"
    document.write_text("Ask somebody.")
    with pytest.raises(
        DocumentError, match=r"page\.md: no `gcloud projects add-iam-policy-binding` gives lunation-dep"
    ):
        roles(DEPLOYER, document)


def test_a_project_begins_with_what_was_done_by_hand() -> None:
    """The accounts are there, and each role has one binding."""
    project = done_by_hand(Project("p"))
    bindings = project.policy("projects/p").bindings
    assert len({one.role for one in bindings}) == len(bindings)
    for account in WHERE:
        email = address(account, "p")
        assert project.get(f"projects/p/serviceAccounts/{email}").email == email
        assert {one.role for one in bindings if f"serviceAccount:{email}" in one.members} == set(roles(account))
