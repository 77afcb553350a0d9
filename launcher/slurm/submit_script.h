// The script that `unipool submit` hands to Slurm: a template with {{name}} for what depends on the job.
// Pure functions: the same options give the same bytes. Whatever a person typed stands in the script as one
// quoted word.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "configs/job.pb.h"

namespace unipool {

// The template of which --print_template shows the text (submit_template.sh).
const char* BuiltInTemplate();

// What the script is of, beside the options.
struct ScriptInput {
  JobConfig job;
  std::string program, config, run_dir, folder;  // absolute paths; folder: where the command was typed
  std::vector<std::string> settings;             // overrides, without run_dir
  std::vector<std::string> command;              // as typed
  std::string version;
  std::string launcher, launcher_reason;  // "srun" or "mpirun", and a sentence
  int64_t time_seconds = 0, lead_seconds = 0;
  std::string setup;  // lines of the setup file, of the site's file before them
};

// The value of each placeholder.
std::map<std::string, std::string> ScriptValues(const ScriptInput& input);

// Throws UserError: a placeholder that is not known, with the nearest known one, or one that is not closed.
// `name` stands at the beginning of the sentence. What looks like a placeholder in a value stays as it is.
std::string FillTemplate(const std::string& text, const std::string& name,
                         const std::map<std::string, std::string>& values);

// {array} in a run_dir becomes the index of an array's task. The folder that all of them share has "array"
// there.
std::string WithArrayIndex(std::string text, const std::string& index);
std::string SharedRunDir(const std::string& run_dir);

// The lines #SBATCH, one an option.
std::string SbatchLines(const ScriptInput& input);

}  // namespace unipool
