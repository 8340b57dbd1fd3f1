// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/options.h"

#include "userspace/util/text.h"

namespace doppel {
void add_json_flag(CLI::App &app, bool &json) {
  app.add_flag("--json", json, "Print JSON; errors too, as {\"errors\": [...]}");
}

std::string whole_number_fault(const std::string &text, uint64_t max) {
  return parse_number(text, max)
             ? ""
             : in_quotes(text) + " is not a number up to " + std::to_string(max);
}

void add_drain_option(CLI::App &app, uint32_t &drain_ms) {
  app.add_option("--drain-ms", drain_ms,
                 "Wait at most this long for the target to acknowledge what was captured")
      ->type_name("MILLISECONDS")
      ->capture_default_str()
      ->check(
          CLI::Validator([](const std::string &s) { return whole_number_fault(s, 600'000); }, ""));
}

void add_mapping_options(CLI::App &app, MappingOptions &o) {
  app.add_option("-x", o.x, "Mirror what arrives at LOCALPORT to this target; may be repeated")
      ->type_name("LOCALPORT-TARGETIP:TARGETPORT")
      ->take_all()
      ->expected(1);
  app.add_option("--device", o.device, "Device that carries the clients' traffic; goes with -x")
      ->type_name("DEVICE");
  app.add_option("--config", o.config, "Read the mappings from this file")->type_name("FILE");
  app.add_option("--attach-mode", o.attach_mode,
                 "How to attach the programs: auto (TCX where the kernel has it), tcx or clsact; "
                 "takes precedence over the file")
      ->type_name("MODE");
}

Result<Config> configuration(const MappingOptions &o) {
  const bool options = !o.x.empty() || !o.device.empty();
  if (!o.config.empty() && options)
    return Error{"command line", "--config cannot go together with -x or --device",
                 "the file names the devices: give the one or the others", Exit::usage};
  if (o.config.empty() && !options)
    return Error{"command line", "there is nothing to mirror",
                 "give --config FILE, or --device DEVICE -x LOCALPORT-TARGETIP:TARGETPORT",
                 Exit::usage};
  auto config = o.config.empty() ? config_from_options(o.device, o.x) : read_config(o.config);
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
