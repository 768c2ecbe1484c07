package agent

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// payloadExpander fills in the templates in the data of secrets and configs. Those may refer to the task's other secrets and configs by their targets, whose
// data is taken as it is, and to its environment.
func (e *Engine) payloadExpander(task *shoal.Task, deps Dependencies, env []string) func(string) (string, error) {
	c := task.Spec.Container
	functions := map[string]func(string) (string, error){
		"secret": func(target string) (string, error) { return dataOf("secret", c.Secrets, deps.Secrets, target) },
		"config": func(target string) (string, error) { return dataOf("config", c.Configs, deps.Configs, target) },
		"env": func(name string) (string, error) {
			for _, variable := range env {
				if key, value, ok := strings.Cut(variable, "="); ok && key == name {
					return value, nil
				}
			}
			return "", nil // as in Docker
		},
	}
	facts := e.facts(task)
	return func(text string) (string, error) { return facts.ExpandWith(text, functions) }
}

// dataOf is the data of the secret or config that the task has at the target.
func dataOf[ID shoal.SecretID | shoal.ConfigID](kind string, refs []shoal.FileReference[ID], objects map[ID]shoal.FileObject[ID], target string) (string, error) {
	for _, ref := range refs {
		if ref.Target != target || ref.Runtime {
			continue
		}
		object, ok := objects[ref.ID]
		if !ok {
			return "", fmt.Errorf("%s %s of the task is not there", kind, ref.Name)
		}
		return string(object.DataOf(ref.Generation)), nil
	}
	return "", fmt.Errorf("%s target %s not found", kind, target)
}

// files is the secrets and configs of a task, as the files they become.
func files(spec *shoal.ContainerSpec, deps Dependencies, expand func(string) (string, error)) ([]container.File, error) {
	var out []container.File
	for _, ref := range spec.Secrets {
		secret, ok := deps.Secrets[ref.ID]
		if !ok {
			return nil, fmt.Errorf("secret %s of the task is not there", ref.Name)
		}
		f, err := file(ref, "/run/secrets", secret, expand)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	for _, ref := range spec.Configs {
		if ref.Runtime {
			continue
		}
		config, ok := deps.Configs[ref.ID]
		if !ok {
			return nil, fmt.Errorf("config %s of the task is not there", ref.Name)
		}
		f, err := file(ref, "/", config, expand)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func file[ID shoal.SecretID | shoal.ConfigID](ref shoal.FileReference[ID], base string, object shoal.FileObject[ID], expand func(string) (string, error)) (container.File, error) {
	f := container.File{Target: ref.Target, Data: object.DataOf(ref.Generation), Mode: ref.Mode}
	if !path.IsAbs(f.Target) {
		f.Target = path.Join(base, f.Target)
	}
	if object.Templating != nil {
		text, err := expand(string(f.Data))
		if err != nil {
			return f, fmt.Errorf("expand %s: %w", ref.Name, err)
		}
		f.Data = []byte(text)
	}
	var err error
	if f.UID, err = number(ref.UID); err != nil {
		return f, fmt.Errorf("owner of %s: %w", ref.Name, err)
	}
	if f.GID, err = number(ref.GID); err != nil {
		return f, fmt.Errorf("group of %s: %w", ref.Name, err)
	}
	return f, nil
}

func number(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	return strconv.Atoi(text)
}
