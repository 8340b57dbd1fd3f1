// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/options.h"
#include "userspace/config/x_option.h"

#include <CLI/App.hpp>
#include <cstdlib>

#include "userspace/util/text.h"
#include "userspace/util/units.h"

namespace doppel {
namespace {
std::string seconds_fault(const std::string &text) {
  char *end = nullptr;
  const double s = std::strtod(text.c_str(), &end);
  const bool ok = end != text.c_str() && *end == '\0' && s >= 0.05 && s <= 86400;
  return ok ? "" : in_quotes(text) + " is not a number of seconds from 0.05 to 86400";
}
} // namespace

void add_flag(CLI::App &app, const char *name, bool &value, const char *help) {
  app.add_flag(name, value, help);
}

void add_text(CLI::App &app, const char *name, std::string &value, const char *help,
              const char *type, bool required) {
  // In a script it is a variable that nobody has set.
  const auto fault = [](const std::string &text) {
    return text.empty() ? "the value is empty" : "";
  };
  app.add_option(name, value, help)
      ->type_name(type)
      ->required(required)
      ->check(CLI::Validator(fault, ""));
}

void add_texts(CLI::App &app, const char *name, std::vector<std::string> &values, const char *help,
               const char *type) {
  app.add_option(name, values, help)->type_name(type)->take_all()->expected(1);
}

void add_seconds(CLI::App &app, const char *name, double &value, const char *help) {
  app.add_option(name, value, help)->type_name("SECONDS")->check(CLI::Validator(seconds_fault, ""));
}

void add_number(CLI::App &app, const char *name, uint64_t &value, const char *help,
                const char *type) {
  constexpr uint64_t kMost = 1'000'000'000'000;
  const auto fault = [](const std::string &text) {
    const std::string f = whole_number_fault(text, kMost);
    return f.empty() && text.find_first_not_of('0') == std::string::npos
               ? in_quotes(text) + " is not at least 1"
               : f;
  };
  app.add_option(name, value, help)->type_name(type)->check(CLI::Validator(fault, ""));
}

void exclude(CLI::App &app, const char *name, const char *other) {
  app.get_option(name)->excludes(app.get_option(other));
}

void add_word(CLI::App &app, const char *name, std::string &value, const char *help) {
  app.add_option(name, value, help);
}

void add_json_flag(CLI::App &app, bool &json) {
  add_flag(app, "--json", json, "Print JSON; errors too, as {\"errors\": [...]}");
}

std::string whole_number_fault(const std::string &text, uint64_t max) {
  return parse_number(text, max)
             ? ""
             : in_quotes(text) + " is not a number up to " + std::to_string(max);
}

void add_drain_option(CLI::App &app, uint32_t &drain_ms) {
  constexpr uint32_t kMost = 600'000;
  const auto time_fault = [](const std::string &text) -> std::string {
    const auto ms = parse_measure(Measure::milliseconds, text);
    const std::string wanted =
        "a time up to " + in_quotes(measure_text(Measure::milliseconds, kMost));
    return ms && *ms <= kMost ? "" : in_quotes(text) + " is not " + wanted;
  };
  app.add_option_function<std::string>(
         "--drain",
         [&drain_ms](const std::string &text) {
           drain_ms = static_cast<uint32_t>(*parse_measure(Measure::milliseconds, text));
         },
         "Wait at most this long for the target to acknowledge and answer what was captured")
      ->type_name("TIME")
      ->default_str(measure_text(Measure::milliseconds, drain_ms))
      ->check(CLI::Validator(time_fault, ""));
  // The former spelling, which scripts have. Help does not show it, nor does the library name it.
  const auto number_fault = [](const std::string &text) {
    const std::string fault = whole_number_fault(text, kMost);
    return fault.empty() ? "" : "--drain-ms: " + fault;
  };
  app.add_option("--drain-ms", drain_ms)->group("")->check(CLI::Validator(number_fault, ""));
}

void add_mapping_options(CLI::App &app, MappingOptions &o) {
  add_texts(
      app, "-x", o.x,
      "Mirror what arrives at LOCALPORT to this target, or at LOCALPORT of the address LOCALIP "
      "alone. LOCALPORT may be a range, 11211-11220, which maps onto the target's ports from "
      "TARGETPORT upward. Several with commas between them, or the option repeated",
      (std::string(kXForm) + "[,...]").c_str());
  add_text(app, "--device", o.device,
           "Device that carries the clients' traffic, or several with commas; goes with -x",
           "DEVICE");
  add_text(app, "--config", o.config, "Read the mappings from this file", "FILE");
  add_flag(app, "--bypass-ipsec", o.bypass_ipsec,
           "Mirror although an IPsec policy covers the target: copies go past it, in clear text");
  add_flag(app, "--dry-run", o.dry_run,
           "Observe and count as ever, and send nothing; goes with -x, a file has \"dry_run\"");
  add_text(app, "--attach-mode", o.attach_mode,
           "How to attach the programs: auto (TCX where the kernel has it), tcx or clsact; "
           "takes precedence over the file",
           "MODE");
}

Result<Config> configuration(const MappingOptions &o) {
  const bool options = !o.x.empty() || !o.device.empty();
  if (!o.config.empty() && options)
    return Error{"command line", "--config cannot go together with -x or --device",
                 "the file names the devices: give the one or the others", Exit::usage};
  if (!o.config.empty() && o.dry_run)
    return Error{"command line", "--config cannot go together with --dry-run",
                 "say \"dry_run\": true in the mappings of the file", Exit::usage};
  if (o.config.empty() && !options)
    return Error{"command line", "there is nothing to mirror",
                 "give --config FILE, or --device DEVICE -x " + std::string(kXForm), Exit::usage};
  auto config = o.config.empty() ? config_from_options(o.device, o.x) : read_config(o.config);
  if (config && o.bypass_ipsec)
    for (MappingConfig &m : config->mappings)
      m.bypass_ipsec = true;
  if (config && o.dry_run)
    for (MappingConfig &m : config->mappings)
      m.send_nothing();
  if (o.attach_mode.empty())
    return config;
  const auto mode = parse_attach_mode(o.attach_mode);
  if (config && mode) {
    config->attach_mode = *mode;
    return config;
  }
  Errors errors;
  collect(config, errors);
  collect(mode, errors);
  return errors;
}

} // namespace doppel
