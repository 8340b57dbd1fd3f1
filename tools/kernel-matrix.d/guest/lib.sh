# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# The guest's side of the report: one line each on descriptor 3, fields separated by tabs.

report() {
	(
		IFS='	'
		printf '%s\n' "$*" >&3
	)
}

pass() { report pass "$1"; }
fail() { report fail "$1" "$(printf '%s' "$2" | tr '\n\t' '  ')"; }
skip() { report skip "$1" "$2"; }
note() { report note "$1"; }

# check NAME COMMAND...: passes if the command succeeds; its output explains a failure
check() {
	check_name=$1
	shift
	if check_out=$("$@" 2>&1); then
		pass "$check_name"
	else
		fail "$check_name" "exit $?: $(printf '%s' "$check_out" | tail -n 8)"
		return 1
	fi
}

# wait_for SECONDS COMMAND...: until it succeeds
wait_for() {
	wait_end=$(($(cut -d. -f1 /proc/uptime) + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(cut -d. -f1 /proc/uptime)" -lt "$wait_end" ] || return 1
		usleep 50000
	done
}

# A suite runs in a process of its own, so that it cannot end process 1 and so the kernel.
suite() {
	suite_begin=$(cut -d. -f1 /proc/uptime)
	if [ -e "/km/suites/$1.py" ]; then
		PYTHONPATH=/km:/km/tree/tests python3 -B "/km/suites/$1.py"
	else
		(
			# shellcheck source=/dev/null
			. "/km/suites/$1"
		)
	fi || fail "suite $1" "ended with exit code $?"
	note "suite $1: $(($(cut -d. -f1 /proc/uptime) - suite_begin)) s"
}

# gtest NAME PROGRAM FILTER: a GoogleTest program. Its "[  OK ] name" and so on become lines of the
# report as they come; what a test printed since its "[ RUN ]" tells why it failed or was skipped.
gtest() {
	gtest_log=/tmp/results/$1.log
	{
		"$2" --gtest_color=no --gtest_filter="$3" 2>&1
		echo $? >"/tmp/$1.code"
	} | tee "$gtest_log" | awk -v suite="$1" '
		function tell(kind) {
			sub(/,$/, "", $4)
			gsub(/\t/, " ", said)
			print kind "\t" suite " " $4 (kind == "pass" ? "" : "\t" substr(said, 1, 600))
			fflush()
		}
		/^\[ RUN / { said = ""; next }
		/^\[ +OK \]/ { tell("pass"); next }
		/^\[ +SKIPPED \].*ms\)$/ { tell("skip"); next }
		/^\[ +FAILED +\].*ms\)$/ { tell("fail"); next }
		{ said = said $0 " " }
	' >&3
	# a crash leaves no line of its own; exit code 1 means failed tests, which have one
	[ "$(cat "/tmp/$1.code")" -le 1 ] ||
		fail "$1" "exit code $(cat "/tmp/$1.code"): $(tail -n 3 "$gtest_log")"
}

# What the kernel says of itself when something of it broke, whoever noticed.
check_dmesg() {
	dmesg >/tmp/results/dmesg
	dmesg_bad=$(grep -E 'WARNING:|BUG:|Oops|Call Trace|UBSAN|recursion limit|detected stall|waiting for .* to become free' /tmp/results/dmesg)
	if [ -z "$dmesg_bad" ]; then
		pass "dmesg: nothing broke"
	else
		fail "dmesg: nothing broke" "$(printf '%s' "$dmesg_bad" | head -n 5)"
	fi
}
