"""Which tests are about Linux, and why: the one table of what does not run on Windows.

A test module stands in it whole, a test in a module of the others by itself. On Windows, and so
under Wine, they are not collected, and the summary counts them by reason. Everything else has to
pass there, but for what Wine fakes (`tests.windows.wine.FAKED`). Names that exist no longer are
an error, so that the table cannot outlive what it speaks of.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

CALLS = "makes system calls of Linux fail or answer, by their names and numbers"
DESCRIPTORS = "directories are descriptors, which stay theirs whatever becomes of the name"
SWAPS = "two names change places, for which Windows has no call (docs/windows.md)"
FILESYSTEMS = "makes and mounts filesystems, or works on those of Linux"
PROGRAMS = "faults in programs: seccomp and ptrace"
PROCESSES = "forks, signals, limits and descriptors of POSIX processes"
USERS = "permission bits, times in nanoseconds, groups and other users"
NAMES = "names and paths that Windows has not: bytes, devices, sockets, fifos, /proc"
OWN_RUN = "runs the conformance suite in runs of its own; under Wine the suite itself is run"
BROWSER = "shows reports in a browser"
COMPANY = "leaves a stage for as long as another linker has a file of it open (docs/windows.md)"
SHARING = "replaces or removes files that are open, which Windows refuses for that moment"
COMMANDS = "runs commands of POSIX: cp, ls, tail"
STAND_INS = "stand-ins for commands of other systems, which are scripts of POSIX"
EDGES = "edges of Linux, which are real on Linux alone"
WORKERS = "starts workers of its own; under Wine the suites themselves run on workers"
SCHEMA = "validates by a library whose compiled part does not load under Wine"
DICE = "thousands of small programs; on Windows others are compared, in tests/windows"
MODELS = "models of other systems that stand on the calls of Linux"

MODULES: Mapping[str, str] = {
    "linker/test_changing_worlds.py": FILESYSTEMS,
    "linker/test_choices.py": CALLS,
    "linker/test_company.py": FILESYSTEMS,
    "linker/test_edges.py": FILESYSTEMS,
    "linker/test_every_edge.py": CALLS,
    "linker/test_every_fault.py": CALLS,
    "linker/test_helping.py": PROCESSES,
    "linker/test_interrupted.py": CALLS,
    "linker/test_kill.py": CALLS,
    "linker/test_linux.py": CALLS,
    "linker/test_letters.py": FILESYSTEMS,
    "linker/test_macos.py": MODELS,
    "linker/test_macos_cloning.py": MODELS,
    "linker/test_macos_sweep.py": MODELS,
    "linker/test_modelled_policies.py": CALLS,
    "linker/test_odd_worlds.py": FILESYSTEMS,
    "linker/test_properties.py": NAMES,
    "linker/test_rare_moments.py": CALLS,
    "linker/test_refused_places.py": CALLS,
    "linker/test_scanning.py": PROCESSES,
    "linker/test_sharing.py": PROCESSES,
    "linker/test_shut_directories.py": CALLS,
    "linker/test_stage.py": DESCRIPTORS,
    "linker/test_sweep.py": CALLS,
    "linker/test_tree.py": DESCRIPTORS,
    "linker/test_uv_policy.py": CALLS,
    "pytest_linkmode/faults/test_bpf.py": PROGRAMS,
    "pytest_linkmode/faults/test_injection.py": PROGRAMS,
    "pytest_linkmode/faults/test_linking.py": CALLS,
    "pytest_linkmode/faults/test_linking_macos.py": MODELS,
    "pytest_linkmode/faults/test_ordinary_user.py": PROGRAMS,
    "pytest_linkmode/faults/test_running.py": PROGRAMS,
    "pytest_linkmode/faults/test_sweep.py": PROGRAMS,
    "pytest_linkmode/faults/test_uv_faults.py": PROGRAMS,
    "pytest_linkmode/faults/test_ways.py": PROGRAMS,
    "pytest_linkmode/filesystems/test_capabilities.py": FILESYSTEMS,
    "pytest_linkmode/filesystems/test_filesystems.py": FILESYSTEMS,
    "pytest_linkmode/filesystems/test_fuse.py": FILESYSTEMS,
    "pytest_linkmode/filesystems/test_images.py": STAND_INS,
    "pytest_linkmode/filesystems/test_kernel.py": FILESYSTEMS,
    "pytest_linkmode/filesystems/test_layouts.py": FILESYSTEMS,
    "pytest_linkmode/filesystems/test_namespaces.py": FILESYSTEMS,
    "pytest_linkmode/filesystems/test_processes.py": PROCESSES,
    "pytest_linkmode/filesystems/test_special.py": FILESYSTEMS,
    "pytest_linkmode/filesystems/test_templates.py": FILESYSTEMS,
    "pytest_linkmode/installers/test_installers.py": PROGRAMS,
    "pytest_linkmode/interleave/test_actors.py": CALLS,
    "pytest_linkmode/interleave/test_historical.py": CALLS,
    "pytest_linkmode/interleave/test_programs.py": PROGRAMS,
    "pytest_linkmode/interleave/test_reference_races.py": CALLS,
    "pytest_linkmode/interleave/test_search.py": DICE,
    "pytest_linkmode/ladder/test_gateways.py": FILESYSTEMS,
    "pytest_linkmode/ladder/test_guests.py": FILESYSTEMS,
    "pytest_linkmode/ladder/test_ladder.py": FILESYSTEMS,
    "pytest_linkmode/ladder/test_mount_command.py": FILESYSTEMS,
    "pytest_linkmode/ladder/test_run_command.py": FILESYSTEMS,
    "pytest_linkmode/ladder/test_scheduling.py": FILESYSTEMS,
    "pytest_linkmode/ladder/test_sudo.py": FILESYSTEMS,
    "pytest_linkmode/ladder/test_user_namespace.py": FILESYSTEMS,
    "pytest_linkmode/ladder/test_wire.py": FILESYSTEMS,
    "pytest_linkmode/ladder/test_xstate.py": PROCESSES,
    "pytest_linkmode/models/test_clonefile_contract.py": MODELS,
    "pytest_linkmode/models/test_clonefile_model.py": MODELS,
    "pytest_linkmode/models/test_conformance_macos.py": MODELS,
    "pytest_linkmode/models/test_log2phys_contract.py": MODELS,
    "pytest_linkmode/test_conformance.py": OWN_RUN,
    "pytest_linkmode/test_conformance_layouts.py": FILESYSTEMS,
    "pytest_linkmode/test_evidence.py": FILESYSTEMS,
    "pytest_linkmode/test_fiemap.py": FILESYSTEMS,
    "pytest_linkmode/test_idle.py": PROCESSES,
    "pytest_linkmode/test_modelled_conformance.py": OWN_RUN,
    "pytest_linkmode/test_page.py": BROWSER,
    "pytest_linkmode/test_report_schema.py": SCHEMA,
    "pytest_linkmode/test_signals.py": PROCESSES,
    "pytest_linkmode/test_storage.py": FILESYSTEMS,
    "pytest_linkmode/test_witnessing.py": PROGRAMS,
    "pytest_linkmode/test_xdist.py": WORKERS,
    "test_consoles.py": COMMANDS,
}
"""Test module -> why it is about Linux."""

TESTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "linker/test_conditions.py": {
        CALLS: ("test_every_error_of_the_system_means_what_its_text_says",),
    },
    "linker/test_engine.py": {
        NAMES: (
            "test_paths_are_whatever_names_a_file",
            "test_an_error_can_be_shown_whatever_the_name",
        ),
        USERS: (
            "test_a_new_target_has_the_mode_and_time_of_the_source",
            "test_one_file_is_linked_under_its_new_name",
        ),
        CALLS: (
            "test_a_directory_that_vanishes_again_and_again_is_an_error",
            "test_a_name_that_comes_and_goes_ends_in_time",
            "test_a_parent_that_takes_no_more_directories_is_an_error",
            "test_one_file_falls_back_as_a_tree_does",
        ),
        DESCRIPTORS: (
            "test_a_deep_and_a_wide_tree_hold_few_descriptors",
            "test_a_directory_that_is_moved_away_is_not_left_by_its_new_parent",
            "test_a_directory_that_another_took_away_is_made_again",
        ),
    },
    "linker/test_failures.py": {
        CALLS: ("test_an_error_begins_with_what_could_not_be_done",),
    },
    "linker/test_inputs.py": {
        NAMES: (
            "test_a_wrong_request_is_refused_and_nothing_happens[ordinary-user-source-is-a-fifo-*",
            "test_a_wrong_request_is_refused_and_nothing_happens[ordinary-user-fifo-*",
            "test_a_wrong_request_is_refused_and_nothing_happens[ordinary-user-socket-*",
            "test_names_at_the_limit_are_linked",
            "test_a_tree_deeper_than_any_path_is_linked",
            "test_a_tree_deeper_than_any_path_is_taken_back",
        ),
        CALLS: (
            "test_a_wrong_request_is_refused_and_nothing_happens[ordinary-user-target-below-a-file-*",
        ),
        PROCESSES: ("test_too_many_open_files_end_a_link_cleanly_or_not_at_all",),
        FILESYSTEMS: (
            "test_a_disk_that_is_full_half_way_is_as_it_was",
            "test_a_disk_without_inodes_half_way_is_as_it_was",
            "test_a_read_only_filesystem_is_refused",
            "test_one_directory_seen_through_two_mounts_is_the_same_directory",
            "test_one_file_seen_through_two_mounts_is_the_same_file",
            "test_a_part_of_the_source_that_is_mounted_in_the_target_is_not_overwritten",
            "test_a_file_that_something_is_mounted_on_cannot_be_replaced",
            "test_a_part_of_the_source_that_is_the_target_is_not_overwritten",
            "test_two_names_that_exfat_folds_into_one_are_refused",
        ),
        USERS: (
            "test_a_device_is_refused",
            "test_a_directory_that_cannot_be_read_ends_the_link",
            "test_a_file_that_cannot_be_read_ends_the_link",
            "test_a_target_of_somebody_else_is_left_alone",
        ),
    },
    "linker/test_journal.py": {
        USERS: (
            "test_permission_bits_that_could_not_be_given_back_are_listed_and_given_by_the_next_run",
            "test_a_note_is_believed_only_if_everything_in_it_is_so",
            "test_a_note_is_believed_only_of_permission_bits",
            "test_what_somebody_else_has_noted_holds_for_what_is_theirs",
            "test_where_others_may_write_nothing_noted_holds",
        ),
        CALLS: (
            "test_a_stage_whose_lock_is_let_go_of_meanwhile_is_removed_as_well",
            "test_linkers_meet_wherever_their_stages_lie",
            "test_a_link_that_failed_may_be_anothers_if_it_is_there",
            "test_a_note_that_vanishes_stops_nobody",
            "test_what_cannot_be_put_back_is_saved_and_listed",
            "test_a_target_in_which_no_stage_survives_is_an_error",
        ),
        PROCESSES: (
            "test_the_lock_of_a_stage_dies_with_its_process",
            "test_a_stage_whose_lock_is_held_is_left_alone",
        ),
        DESCRIPTORS: (
            "test_an_empty_directory_that_another_undo_removes_meanwhile_is_made",
            "test_an_empty_directory_wanted_while_it_is_undone_is_there_afterwards",
        ),
        COMPANY: ("test_a_hard_linker_that_comes_during_the_undo_loses_nothing[old]",),
        SWAPS: (
            "test_what_others_replace_while_we_undo_stays[clone-a]",
            "test_what_others_replace_while_we_undo_stays[hardlink-a]",
            "test_what_others_replace_while_we_undo_stays[copy-a]",
        ),
    },
    "linker/test_light.py": {COMMANDS: ("test_a_link_that_goes_well_imports_nothing_dear",)},
    "linker/test_linker_cli.py": {
        CALLS: (
            "test_the_default_mode_is_that_of_the_policy",
            "test_a_fallback_names_what_was_asked_and_what_happened",
            "test_a_chain_of_fallbacks_names_the_mode_at_its_end",
            "test_fallbacks_of_single_files_are_grouped_and_counted",
            "test_strict_fails_instead",
        ),
        NAMES: ("test_names_of_any_bytes_reach_any_terminal",),
        PROCESSES: (
            "test_closed_streams_are_no_reason_to_fail",
            "test_a_manifest_that_cannot_come_from_stdin_is_told",
            "test_an_error_that_no_program_reads_is_told_to_people",
            "test_a_working_directory_that_was_removed_is_told",
            "test_control_c_is_such_an_interruption",
            "test_an_interrupt_while_the_linker_is_loaded_is_told[closed]",
            "test_an_interrupt_while_the_linker_is_loaded_is_told[full]",
        ),
    },
    "linker/test_links.py": {
        CALLS: (
            "test_one_file_tells_observers_and_falls_back_unless_strict",
            "test_one_file_that_failed_leaves_what_was_there",
            "test_any_source_is_linked_with_every_promise",
            "test_a_tree_may_be_linked_again_from_its_first_file_from_any_source",
            "test_every_stage_is_gone_however_many_there_were",
            "test_a_stage_that_stays_beside_a_new_target_is_named",
            "test_a_stage_that_can_neither_be_listed_nor_removed_is_named_once",
            "test_a_read_only_root_that_stays_open_is_named_with_its_stage",
            "test_a_hard_link_is_taken_back_though_its_source_is_gone",
            "test_who_replaces_a_hard_link_at_once_keeps_what_is_theirs",
            "test_a_hard_link_that_could_not_be_looked_at_is_taken_back",
            "test_a_hard_link_that_was_not_seen_may_be_another_linkers_too",
            "test_what_cannot_be_looked_at_has_no_inode",
            "test_a_source_from_the_future_is_taken_back_all_the_same",
            "test_what_was_replaced_comes_back_though_the_source_has_other_files_by_now[2-*",
            "test_what_helpers_made_is_taken_back_though_the_source_has_other_files_by_now",
            "test_an_error_is_the_same_in_another_process",
            "test_strict_raises_where_the_policy_would_fall_back",
            "test_a_policy_that_undoes_nothing_leaves_what_it_had_linked",
            "test_a_target_that_cannot_be_looked_through_is_refused_before_anything_is_written",
            "test_a_target_that_cannot_be_listed_is_named",
            "test_a_target_that_others_remove_is_made_again",
            "test_a_target_that_is_there_and_cannot_be_opened_is_no_target_that_vanished",
        ),
        NAMES: ("test_a_directory_that_vanishes_while_it_is_looked_at_is_made",),
    },
    "linker/test_manifest.py": {
        NAMES: (
            "test_a_path_that_could_lead_elsewhere_is_refused[file-no bytes]",
            "test_a_path_that_could_lead_elsewhere_is_refused[directory-no bytes]",
            "test_a_path_that_could_lead_elsewhere_is_refused[file-letters as bytes]",
            "test_a_path_that_could_lead_elsewhere_is_refused[directory-letters as bytes]",
            "test_a_manifest_may_have_a_name_of_any_length_that_a_file_may_have",
            "test_nobody_is_waited_for_who_might_write_a_manifest",
            "test_a_manifest_takes_the_place_of_files_only",
            "test_a_name_that_is_too_long_for_a_manifest_is_known_before",
        ),
        USERS: (
            "test_a_manifest_is_written_under_any_umask",
            "test_a_manifest_is_shown_to_nobody_else_than_before",
        ),
    },
    "linker/test_merging.py": {
        DESCRIPTORS: (
            "test_the_way_from_a_stage_to_a_directory_is_told_by_names",
            "test_names_that_fold_into_one_are_refused_by_trying",
            "test_names_that_cannot_be_tried_are_an_error_that_names_the_first",
            "test_a_stage_in_the_target_finds_who_is_there_and_tells_them",
            "test_names_are_tried_whatever_the_umask",
            "test_a_stage_that_cannot_be_made_is_told_by_its_directory",
            "test_it_is_asked_once_a_stage_whether_names_can_be_swapped",
        ),
        CALLS: (
            "test_observers_are_told_that_a_stage_has_no_lock",
            "test_observers_are_told_of_a_file_that_came_meanwhile",
            "test_an_exchange_that_claims_to_have_replaced_something_is_noticed",
            "test_files_with_too_many_links_are_made_in_another_mode_and_undone",
        ),
        USERS: (
            "test_a_new_directory_is_never_more_open_than_its_source",
            "test_new_directories_keep_an_inherited_group_whatever_the_umask",
            "test_a_read_only_directory_is_made_writable_wherever_we_are",
            "test_a_read_only_directory_whose_group_is_anothers_keeps_its_set_group_id_bit",
            "test_a_note_says_what_the_next_run_has_to_give_back",
            "test_a_read_only_directory_is_opened_to_its_owner_alone_and_noted",
            "test_only_hard_links_need_a_stage_in_a_target_that_is_read_only",
        ),
    },
    "linker/test_pollution.py": {
        USERS: ("test_a_write_reaches_the_other_side_in_sharing_modes_only[disk-hardlink]",),
    },
    "linker/test_refusals.py": {
        CALLS: ("test_what_cannot_be_read_of_a_source_is_named",),
        USERS: ("test_a_source_that_may_not_be_looked_at_is_refused_as_that",),
        PROCESSES: ("test_a_working_directory_that_was_removed_is_told_of_relative_paths_alone",),
    },
    "linker/test_rules.py": {
        CALLS: (
            "test_what_is_refused_ends_as_a_file_of_its_own",
            "test_a_call_that_did_nothing_is_noticed_and_told",
            "test_without_edges_nothing_is_ever_tried_twice",
            "test_the_edge_is_what_decides",
        ),
        NAMES: ("test_what_is_no_file_is_refused_before_anything_is_written",),
        USERS: (
            "test_setuid_is_carried_by_sharing_a_file_only",
            "test_a_directory_that_was_there_keeps_its_mode_and_its_time_moves_on",
        ),
        SHARING: ("test_at_every_moment_each_name_shows_an_old_or_a_whole_new_entry",),
    },
    "linker/test_store.py": {
        DESCRIPTORS: (
            "test_what_is_kept_already_takes_no_space_a_second_time",
            "test_a_digest_is_that_of_what_was_written",
            "test_a_source_that_is_not_what_was_expected_is_not_kept",
        ),
        NAMES: (
            "test_a_name_that_the_target_cannot_hold_leaves_nothing",
            "test_a_file_that_is_not_what_it_was_is_refused_before_anything_is_written[a fifo-*",
            "test_a_file_that_is_not_what_it_was_is_refused_before_anything_is_written[a device-*",
            "test_adding_again_mends_a_store[a fifo]",
            "test_adding_again_mends_a_store[a device]",
            "test_a_store_without_a_file_that_says_so_is_none",
            "test_a_source_that_no_manifest_can_name_is_not_kept",
            "test_a_tree_deeper_than_any_path_is_kept_and_linked",
        ),
        USERS: (
            "test_a_file_that_is_not_what_it_was_is_refused_before_anything_is_written[executable-*",
            "test_a_file_that_is_not_what_it_was_is_refused_before_anything_is_written[setuid-*",
            "test_a_file_is_kept_once_for_each_digest_and_exec_bit",
            "test_a_target_has_what_the_manifest_says",
            "test_the_same_content_twice_in_one_directory_is_one_inode",
            "test_what_cannot_be_read_or_written_is_an_error_of_ours",
            "test_a_store_that_may_only_be_read_is_enough",
            "test_a_filesystem_of_fixed_bits_is_refused_whatever_they_are",
        ),
        PROCESSES: ("test_a_writer_that_is_really_killed_leaves_nothing_that_stays",),
    },
    "pytest_linkmode/faults/test_inprocess.py": {
        NAMES: ("test_a_failing_function_is_replayed_by_the_same_line",),
        DESCRIPTORS: ("test_a_directory_descriptor_is_where_a_path_starts",),
        CALLS: (
            "test_a_short_copy_copies_half_and_a_loop_gets_there",
            "test_a_short_copy_of_a_few_bytes_of_many_is_half_of_these_few",
            "test_what_comes_out_of_a_pipe_into_a_file_is_a_copy",
            "test_a_node_is_made_and_filled_as_a_file_is_and_a_pipe_is_none",
            "test_what_is_no_call_of_a_function_is_the_error_that_it_is",
            "test_what_shutil_copies_by_on_a_mac_is_a_copy",
        ),
    },
    "pytest_linkmode/faults/test_pytest_faults.py": {
        PROGRAMS: (
            "test_a_budget_is_said",
            "test_a_case_that_no_sweep_meets_any_more_fails_the_run",
            "test_a_program_that_fails_by_itself_is_told",
            "test_a_quiet_run_says_what_was_not_run_and_prints_no_empty_section",
            "test_a_sweep_that_was_left_is_said_in_a_quiet_run_too",
            "test_a_failing_case_is_one_subtest_and_the_rest_one_line",
            "test_lines_of_workers_arrive",
            "test_one_case_is_replayed_as_it_was_printed",
            "test_the_printed_line_shows_the_case_again_when_it_is_pasted",
            "test_where_programs_cannot_have_faults_the_test_is_skipped_with_the_reason",
            "test_without_subtests_the_test_fails_with_all_of_them",
        ),
        CALLS: ("test_what_the_reference_linker_did_about_a_fault_counts_as_injected",),
    },
    "pytest_linkmode/interleave/test_pytest_interleave.py": {
        WORKERS: ("test_workers_say_what_they_explored",),
    },
    "pytest_linkmode/filesystems/test_registry.py": {
        FILESYSTEMS: (
            "test_what_a_killed_process_left_is_undone",
            "test_a_kill_around_a_step_leaves_nothing_that_is_not_noted",
            "test_a_dry_run_shows_and_touches_nothing",
            "test_what_lives_is_left_alone",
            "test_what_is_in_use_stays_noted_until_it_is_free",
            "test_what_somebody_mounted_there_since_is_left_alone",
            "test_images_with_names_are_removed_too",
        ),
        PROCESSES: (
            "test_the_living_are_known_by_pid_start_and_boot",
            "test_who_is_gone_but_not_waited_for_does_not_live",
            "test_a_beginning_that_was_killed_is_removed",
        ),
        SHARING: (
            "test_two_at_once_undo_each_step_once",
            "test_a_process_can_end_although_its_notes_were_taken_away",
        ),
    },
    "pytest_linkmode/test_adapters.py": {
        COMMANDS: (
            "test_cp_is_a_linker",
            "test_a_command_is_never_given_to_a_shell",
            "test_what_a_command_printed_is_kept",
            "test_a_command_has_the_environment_of_the_user",
            "test_a_script_without_its_interpreter_is_told_from_one_that_is_missing",
            "test_a_command_that_fails_is_an_adapter_error_with_what_it_printed",
        ),
        NAMES: ("test_a_command_gets_its_arguments_one_by_one",),
    },
    "pytest_linkmode/test_assertions.py": {
        USERS: (
            "test_directories_that_were_there_keep_their_own_bits_and_times",
            "test_what_of_the_stat_is_compared_can_be_chosen[left1]",
            "test_every_difference_is_a_row[make_unreadable-expected4]",
            "test_every_difference_is_a_row[age-expected5]",
        ),
        NAMES: (
            "test_names_that_are_no_text_are_told_in_text",
            "test_a_name_is_shown_in_one_line[\\udcff-*",
        ),
    },
    "pytest_linkmode/test_cli.py": {
        PROCESSES: (
            "test_explain_in_a_layout_does_what_the_system_would_do",
            "test_explain_in_a_layout_shows_what_a_kill_leaves",
            "test_a_working_directory_that_was_removed_is_told",
        ),
        NAMES: ("test_odd_names_are_told_on_one_line_each",),
        FILESYSTEMS: (
            "test_doctor_lists_every_filesystem_and_every_layout",
            "test_doctor_tells_people_of_layouts_in_few_lines_and_of_one_that_is_named_at_length",
        ),
    },
    "pytest_linkmode/test_coverage.py": {
        EDGES: (
            "test_edges_are_collected_while_a_test_of_ours_runs_and_from_no_other",
            "test_an_edge_of_another_policy_is_told_of",
            "test_the_policy_of_the_run_is_that_of_expectations",
        ),
    },
    "pytest_linkmode/test_guards.py": {
        FILESYSTEMS: (
            "test_a_suite_that_tested_nothing_fails_the_run[not applicable]",
            "test_skips_are_red_for_those_who_asked_and_yellow_for_those_who_did_not",
            "test_a_setting_of_the_ini_file_asks_too",
            "test_what_a_conftest_sets_later_and_nothing_uses_fails_no_run",
        ),
        WORKERS: (
            "test_no_suite_in_which_nothing_came_to_a_result_meets_a_guard",
            "test_no_suite_of_which_everything_was_deselected_meets_a_guard",
        ),
    },
    "pytest_linkmode/test_independence.py": {
        CALLS: (
            "test_the_other_file_is_read_past_the_page_cache",
            "test_permission_bits_that_writing_took_away_are_put_back",
            "test_holes_are_left_alone",
            "test_a_file_without_any_data_cannot_be_edited",
            "test_an_edit_that_fails_is_kept_as_an_error_and_undone",
            "test_on_a_mac_data_is_edited_whatever_lseek_says",
            "test_on_a_mac_only_what_has_no_blocks_and_reads_as_nothing_is_a_hole",
        ),
    },
    "pytest_linkmode/test_plugin.py": {
        USERS: ("test_the_header_is_what_one_would_type",),
        COMMANDS: ("test_a_linker_may_be_built_by_the_tests_that_drive_it",),
        FILESYSTEMS: (
            "test_what_was_asked_for_by_name_and_cannot_be_had_is_a_usage_error",
            "test_collecting_only_looks_for_what_is_missing_and_makes_nothing",
            "test_a_directory_that_is_not_what_it_was_named_for_is_a_usage_error",
            "test_what_can_be_done_without_is_skipped_with_every_reason",
            "test_a_run_inside_a_run_does_not_enter_again",
            "test_filesystems_are_made_in_a_private_namespace",
            "test_fresh_filesystems_are_used_by_one_test_only",
            "test_under_bare_auto_the_first_fixture_enters_and_threads_are_told_of",
        ),
    },
    "pytest_linkmode/test_report.py": {
        EDGES: ("test_junit_has_what_properties_can_hold",),
    },
    "pytest_linkmode/test_samples.py": {
        USERS: (
            "test_a_tree_can_be_written_into_one_that_is_there",
            "test_it_is_written_as_the_table_says",
        ),
        NAMES: ("test_odd_names_hold_everything_but_slash_and_nul",),
    },
    "pytest_linkmode/test_selection.py": {
        FILESYSTEMS: ("test_needs_that_only_probing_tells_skip_as_not_applicable",),
    },
    "pytest_linkmode/test_snapshots.py": {
        USERS: ("test_every_change_is_told[<lambda>-'run' has another permissions]",),
    },
    "pytest_linkmode/test_tmp.py": {
        FILESYSTEMS: (
            "test_a_btrfs_serves_as_well",
            "test_tmp_path_of_an_unchanged_suite_lies_there",
        ),
    },
    "windows/test_windows_schedules.py": {
        MODELS: ("test_two_linkers_in_one_target_over_the_model",),
    },
}
"""Test module -> why -> the tests in it that are about Linux.

With ``[...]`` it is one case of a test, with ``[...*`` all that begin so."""


def _means(entry: str, test: str) -> bool:
    whole = entry in (test.partition("[")[0], test)
    return whole or (entry.endswith("*") and test.startswith(entry[:-1]))


def why(module: str, test: str = "") -> str:
    """Return why a module, or one of its tests, is about Linux; nothing if it is not."""
    if module in MODULES:
        return MODULES[module]
    for reason, tests in TESTS.get(module, {}).items():
        if any(_means(each, test) for each in tests):
            return reason
    return ""


def meaningless(collected: Iterable[tuple[str, str]]) -> list[str]:
    """Return the entries of modules that were collected whole which mean no test of them.

    The cases of a test may be others on Windows: only there it shows that one is none.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for module, test in collected:
        found[module].append(test)
    return [
        f"{module}::{each}"
        for module, names in found.items()
        for tests in TESTS.get(module, {}).values()
        for each in tests
        if not any(_means(each, name) for name in names)
    ]


def summary(asked: Iterable[str]) -> list[str]:
    """Return how many modules and tests of the directories and modules in `asked` are left out."""
    rows = [(module, reason, "modules") for module, reason in MODULES.items()]
    rows += [
        (module, reason, "tests")
        for module, reasons in TESTS.items()
        for reason, tests in reasons.items()
        for _ in tests
    ]
    told: Counter[tuple[str, str]] = Counter()
    for module, reason, kind in rows:
        if any(f"{module}/".startswith(f"{each}/") for each in asked):
            told[reason, kind] += 1
    return [f"{count:4} {kind}: {reason}" for (reason, kind), count in sorted(told.items())]
