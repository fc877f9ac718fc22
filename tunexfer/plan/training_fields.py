"""The fields of transformers' `TrainingArguments` and who sets them, listed here so that a plan need not import it."""

SETTABLE = frozenset(
    """
    activation_checkpointing activation_checkpointing_kwargs adam_beta1 adam_beta2 adam_epsilon
    dataloader_in_order dataloader_multiprocessing_context dataloader_num_workers dataloader_persistent_workers
    dataloader_pin_memory dataloader_prefetch_factor debug gradient_accumulation_steps gradient_checkpointing
    gradient_checkpointing_kwargs label_smoothing_factor liger_kernel_config lr_scheduler_kwargs lr_scheduler_type
    max_grad_norm neftune_noise_alpha optim optim_args optim_target_modules skip_memory_metrics tf32 torch_compile
    torch_compile_backend torch_compile_mode torch_empty_cache_steps use_liger_kernel warmup_steps weight_decay
    """.split()
)
"""A space's `training:` block may set these."""

OURS = frozenset(
    """
    max_steps num_train_epochs per_device_train_batch_size learning_rate auto_find_batch_size
    seed data_seed full_determinism bf16 fp16 bf16_full_eval fp16_full_eval use_cpu
    output_dir report_to run_name project trackio_space_id trackio_bucket_id trackio_static_space_id
    logging_strategy logging_steps logging_first_step log_on_each_node logging_nan_inf_filter log_level
    log_level_replica disable_tqdm eval_strategy eval_steps eval_delay eval_on_start per_device_eval_batch_size
    prediction_loss_only eval_do_concat_batches eval_use_gather_object eval_accumulation_steps
    include_for_metrics batch_eval_metrics save_strategy save_steps save_only_model save_on_each_node
    save_total_limit enable_jit_checkpoint load_best_model_at_end metric_for_best_model greater_is_better
    ignore_data_skip restore_callback_states_from_checkpoint resume_from_checkpoint push_to_hub hub_token
    hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision do_train do_eval do_predict
    train_sampling_strategy length_column_name dataloader_drop_last remove_unused_columns label_names
    include_num_input_tokens_seen use_cache
    accelerator_config parallelism_config ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers
    ddp_static_graph ddp_backend ddp_timeout fsdp fsdp_config deepspeed local_rank average_tokens_across_devices
    """.split()
)
"""A space may not set these. In groups: fields of the stage itself; settings of the whole study; files, logs and
evaluations, which the stage store and the record replace; how batches are drawn and padded; distributed training."""

KNOWN = SETTABLE | OURS
"""Every field of transformers 5.23."""
